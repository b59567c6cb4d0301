# SPDX-License-Identifier: Apache-2.0
"""Does every report say what a person needs, and does none leave out what is not known?

One small fleet: web1 and web2 share their packages, web2 has an expired certificate and a library replaced
under nginx, db1's scan of certificates failed, old1 has been silent for a month.
"""

from __future__ import annotations

import datetime as dt
import json as json_reader
from typing import Any

import msgspec
import pytest

from agent.model.asset import CryptoPolicy, FipsMode, TrustStore
from agent.model.inventory import SectionState
from reports import formats
from reports.algorithms import AlgorithmTable
from reports.assess import Assessment, assess
from reports.changes import changes
from reports.compare import compare
from reports.document import Document
from reports.documents.changes import changes_document
from reports.documents.compliance import compliance_document
from reports.documents.difference import difference_document
from reports.documents.host import host_document
from reports.documents.hosts import hosts_document
from reports.documents.inventory import inventory_document
from reports.policy import Policy
from reports.view import HostView
from tests.reports.conftest import Golden
from tests.reports.samples import (
    CA_CERTIFICATES,
    NOW,
    SHA1_RSA,
    Fleet,
    certificate,
    day,
    ec,
    entry,
    library,
    nothing,
    rsa,
    sha256,
    use,
)

ROOT = certificate(
    "CN=Example Root,O=Example",
    not_after="2020-06-01T00:00:00.000000Z",
    key=rsa(4096),
    signature=SHA1_RSA,
    is_ca=True,
    self_issued=True,
)
SITE = certificate("CN=www.example.com", key=ec("secp256r1"), not_after="2026-12-10T00:00:00.000000Z")
RENEWED = certificate("CN=www.example.com", key=ec("secp256r1"), not_after="2027-03-10T00:00:00.000000Z")
OLD = certificate("CN=legacy.example.com", key=rsa(1024), not_after="2026-10-01T00:00:00.000000Z")
BUNDLE = TrustStore(
    format="pem-bundle", members=tuple(sorted(sha256(str(n)) for n in range(3))), reference="ca-certificates"
)


class Town:
    """The fleet of the module's docstring."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        vendor = (entry("/usr/share/ca-certificates/root.crt", ROOT, package=CA_CERTIFICATES),)
        bundle = entry("/etc/ssl/certs/ca-certificates.crt", BUNDLE)
        libraries = self.fleet.section(
            vendor=(
                entry("/usr/lib/libcrypto.so.3", library(), aliases=("/usr/lib/libcrypto.so",)),
                entry("/usr/lib/libssl.so.3", library(name="libssl")),
            )
        )
        host = self.fleet.section(
            entry("crypto-policy", CryptoPolicy(present=False)),
            entry("fips-mode", FipsMode(enabled=False, supported=True)),
        )
        nginx = {"path": "/usr/lib/libssl.so.3", "exe": "/usr/sbin/nginx", "unit": "nginx.service"}
        self.site = entry("/etc/nginx/site.pem", SITE, owner="root", mode="0644")
        self.web1 = self.fleet.host(
            "web1",
            certificates=self.fleet.section(self.site, bundle, vendor=vendor),
            host=host,
            libraries=libraries,
            processes=self.fleet.section(
                entry("/usr/sbin/nginx nginx.service", use(), **nginx), sampled=True
            ),
        )
        self.web2 = self.fleet.host(
            "web2",
            certificates=self.fleet.section(
                entry("/etc/nginx/site.pem", RENEWED, owner="root", mode="0600"),
                entry("/srv/old.pem", OLD),
                bundle,
                vendor=vendor,
                status="partial",
            ),
            host=host,
            libraries=libraries,
            processes=self.fleet.section(
                entry(
                    "/usr/sbin/nginx nginx.service (deleted)", use(deleted=True, version="3.0.13"), **nginx
                ),
                sampled=True,
            ),
        )
        self.db1 = self.fleet.host(
            "db1",
            certificates=nothing("failed", "the scanner was killed after 30 s"),
            host=host,
            libraries=libraries,
            processes=nothing("absent", "no process uses a cryptographic library"),
        )
        self.old1 = self.fleet.host(
            "old1",
            last_seen="2026-10-20T11:00:00.000000Z",
            certificates=self.fleet.section(entry("/srv/old.pem", OLD)),
            host=host,
            libraries=libraries,
            processes=self.fleet.section(sampled=True),
        )

    @property
    def all(self) -> list[HostView]:
        """Every host, in no order."""
        return [self.web2, self.old1, self.web1, self.db1]


@pytest.fixture
def town() -> Town:
    """The fleet."""
    return Town()


def plain(document: Document) -> str:
    """As a person sees it."""
    return formats.load("table").render(document)


def judged(town: Town, policy: Policy, *views: HostView, at: dt.datetime = NOW) -> Assessment:
    """An assessment of some of the hosts, or of all."""
    return assess(views or town.all, town.fleet.load, [policy], at)


@pytest.fixture
def documents(town: Town, table: AlgorithmTable, hygiene: Policy) -> dict[str, Document]:
    """Every report there is, over that fleet."""
    load = town.fleet.load
    # A month ago web2 had its certificate from web1, and the certificates of db1 could be seen.
    before = [
        msgspec.structs.replace(town.web2, sections=town.web1.sections),
        msgspec.structs.replace(town.db1, sections=town.old1.sections),
    ]
    month_ago = assess(before, load, [hygiene], day("2026-10-20"))
    now = assess([town.web2, town.db1], load, [hygiene], NOW)
    return {
        "hosts": hosts_document(town.all, NOW),
        "host": host_document(town.web2, load, table, NOW),
        "host-section": host_document(town.web2, load, table, NOW, section="certificates"),
        "difference": difference_document(compare(town.web1, town.web2, load), table),
        "difference-failed": difference_document(compare(town.web1, town.db1, load), table),
        "inventory": inventory_document(town.all, load, table, NOW),
        "compliance": compliance_document(judged(town, hygiene), table),
        "compliance-changes": changes_document(changes(month_ago, now), month_ago, now, table),
    }


@pytest.mark.parametrize(
    "name",
    [
        "hosts",
        "host",
        "host-section",
        "difference",
        "difference-failed",
        "inventory",
        "compliance",
        "compliance-changes",
    ],
)
def test_a_report_reads_as_it_always_did(documents: dict[str, Document], golden: Golden, name: str) -> None:
    """Whole reports, to be read by whoever changes one."""
    golden.check(f"{name}.txt", plain(documents[name]))


def test_every_report_has_a_schema_of_its_own_and_says_so_in_json(documents: dict[str, Document]) -> None:
    """A program must know what it reads."""
    for document in documents.values():
        read = json_reader.loads(formats.load("json").render(document))

        assert read["schema"] == document.schema
        assert document.schema.startswith("cryptofleet.")
        assert document.schema.endswith("/1")


def test_every_report_can_be_written_in_every_format(documents: dict[str, Document]) -> None:
    """Also with everything that a real asset holds."""
    for document in documents.values():
        for name in formats.names():
            assert formats.load(name).render(document)


def test_columns_of_a_table_have_names_of_their_own(documents: dict[str, Document]) -> None:
    """CSV puts them side by side, and names three of its own."""
    for document in documents.values():
        for table in (*document.tables, document.unknown):
            names = [column.name for column in table.columns]
            assert len(names) == len(set(names))
            assert not {"table", "fact", "value"} & set(names)
            assert {name for row in table.rows for name in row} <= set(names), table.name


def test_a_host_that_is_not_fully_known_is_named_in_every_report_over_it(
    documents: dict[str, Document],
) -> None:
    """Silence is not health."""
    for name in ("hosts", "inventory", "compliance"):
        told = {(row["host"], row["status"]) for row in documents[name].unknown.rows}

        assert {("db1", "failed"), ("db1", "absent"), ("old1", "stale"), ("web2", "partial")} <= told, name


def test_the_same_thing_on_many_hosts_is_one_row(town: Town, table: AlgorithmTable, hygiene: Policy) -> None:
    """A vendor's expired root is fixed once."""
    many = [
        msgspec.structs.replace(town.web1, host_id=f"h-{n}", name=f"web{n:02}", sections=town.web1.sections)
        for n in range(20)
    ]

    document = compliance_document(assess(many, town.fleet.load, [hygiene], NOW), table)

    (row,) = [row for row in document.tables[1].rows if row["rule"] == "vendor-cert-expired"]
    assert row["hosts_shown"] == "web00, web01, web02 and 17 more"
    assert len(row["hosts"]) == 20


def test_the_worst_comes_first(documents: dict[str, Document]) -> None:
    """The on-call engineer reads the first line."""
    rows = documents["compliance"].tables[1].rows

    order = [("fail", "warn", "unknown").index(row["verdict"]) for row in rows]
    assert order == sorted(order)


def test_counts_add_up_to_the_fleet(documents: dict[str, Document]) -> None:
    """No host falls out of a row."""
    verdicts = ("pass", "fail", "warn", "unknown", "not_applicable")
    for row in documents["compliance"].tables[0].rows:
        assert sum(row[f"hosts_{verdict}"] for verdict in verdicts) == 4


def test_a_hundred_new_members_of_a_bundle_are_not_a_hundred_lines(
    fleet: Fleet, table: AlgorithmTable
) -> None:
    """The JSON has them all."""
    members = tuple(sorted(sha256(str(n)) for n in range(100)))
    before = fleet.section(entry("/b", TrustStore(format="pem-bundle", members=members[:1])))
    after = fleet.section(entry("/b", TrustStore(format="pem-bundle", members=members)))

    document = difference_document(
        compare(fleet.host("a", c=before), fleet.host("a", c=after), fleet.load), table
    )

    assert "and 96 more" in plain(document)
    (field,) = json_reader.loads(formats.load("json").render(document))["tables"]["drift"][0]["fields"]
    assert len(field["after"]) == 100


def test_an_empty_fleet_gets_reports_that_say_so(
    table: AlgorithmTable, hygiene: Policy, fleet: Fleet
) -> None:
    """The first command after the installation must not fail."""
    for document in (
        hosts_document([], NOW),
        inventory_document([], fleet.load, table, NOW),
        compliance_document(assess([], fleet.load, [hygiene], NOW), table),
    ):
        assert plain(document)


def test_a_section_in_a_state_nobody_foresaw_is_shown_as_it_is(fleet: Fleet, table: AlgorithmTable) -> None:
    """No reason given is a reason to say so."""
    state: SectionState = nothing("failed")
    view = fleet.host("a", libraries=state)

    rows: Any = host_document(view, fleet.load, table, NOW).unknown.rows
    assert rows[0]["reason"] == "no reason given"
