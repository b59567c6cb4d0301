# SPDX-License-Identifier: Apache-2.0
"""What does the fleet hold, as a report? Kinds of assets, common libraries, ends of certificates."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.model import canonical
from reports.algorithms import AlgorithmTable
from reports.coverage import STALE_AFTER_DAYS, gaps
from reports.document import Document, Fact, Table, columns
from reports.documents import sections_of, unknown
from reports.documents.compliance import hosts_words
from reports.operators import whole_second
from reports.stock import CertificateStock, Stock, stock
from reports.view import HostView, Loader

SCHEMA = "cryptofleet.inventory/1"
# Spans people plan in. A certificate is counted in the first one that it does not outlast.
_SPANS: tuple[tuple[str, int | None], ...] = (
    ("within 30 days", 30),
    ("within 90 days", 90),
    ("within a year", 365),
    ("later", None),
)
# Certificates listed one by one: a month's work. The JSON of `fleet report compliance` and `fleet show` has
# them all.
NEXT_MAX = 20


def inventory_document(
    views: Sequence[HostView],
    load: Loader,
    table: AlgorithmTable,
    at: dt.datetime,
    *,
    now: dt.datetime | None = None,
    stale_after_days: int = STALE_AFTER_DAYS,
) -> Document:
    """Everything counted.

    Args:
        views: the hosts, each once.
        load: opens parts.
        table: knows algorithms by the names people use.
        at: the day from which the time to expiry is counted.
        now: the moment the views speak of, where `at` lies later.
        stale_after_days: how many days of silence make a host stale.
    """
    ordered = sorted(views, key=lambda view: (view.name, view.host_id))
    names = {view.host_id: view.name for view in ordered}
    total = stock(ordered, load)
    asked = sections_of(ordered)
    heard = min(at, now or at)
    return Document(
        schema=SCHEMA,
        title="Inventory",
        facts=(
            Fact(name="at", title="At", value=canonical.timestamp_of(at)),
            Fact(name="hosts", title="Hosts", value=len(ordered)),
            Fact(name="entries", title="Entries", value=total.entries.total()),
            Fact(name="certificates", title="Distinct certificates", value=len(total.certificates)),
        ),
        tables=(
            _sections(ordered, asked),
            _kinds(total),
            _libraries(total),
            _expiry(total, at),
            _next(total, names, table, at),
        ),
        unknown=unknown(gap for view in ordered for gap in gaps(view, asked, heard, stale_after_days)),
    )


def _sections(views: Sequence[HostView], asked: list[str]) -> Table:
    rows: list[dict[str, Any]] = []
    for section in asked:
        states = [view.sections.get(section) for view in views]
        counts = Counter(state.status if state else "missing" for state in states)
        statuses = ("complete", "partial", "absent", "failed", "missing")
        rows.append({"section": section} | {status: counts[status] for status in statuses})
    return Table(
        name="sections",
        title="Sections, by number of hosts",
        columns=columns(
            ("section", "section"),
            ("complete", "complete"),
            ("partial", "partial"),
            ("absent", "absent"),
            ("failed", "failed"),
            ("missing", "missing"),
        ),
        rows=tuple(rows),
        empty="No host has sent anything.",
    )


def _kinds(total: Stock) -> Table:
    return Table(
        name="kinds",
        title="What was found",
        columns=columns(
            ("section", "section"),
            ("kind", "kind"),
            ("hosts", "hosts"),
            ("entries", "entries"),
            ("distinct", "distinct"),
        ),
        rows=tuple(
            {
                "section": section,
                "kind": kind,
                "hosts": len(found.hosts),
                "entries": found.entries,
                "distinct": len(found.assets),
            }
            for (section, kind), found in sorted(total.kinds.items())
        ),
        empty="No entry was found on any host.",
    )


def _libraries(total: Stock) -> Table:
    names = set(total.installed) | set(total.running)

    def common_first(name: tuple[str, str, str | None]) -> tuple[object, ...]:
        hosts = total.installed.get(name, set()) | total.running.get(name, set())
        return (-len(hosts), name[0], name[1], name[2] or "")

    return Table(
        name="libraries",
        title="Cryptographic libraries, the most common first",
        columns=columns(
            ("family", "family"),
            ("name", "name"),
            ("version", "version"),
            ("hosts_installed", "on disk"),
            ("hosts_running", "in use"),
        ),
        rows=tuple(
            {
                "family": family,
                "name": name,
                "version": version,
                "hosts_installed": len(total.installed.get((family, name, version), ())),
                "hosts_running": len(total.running.get((family, name, version), ())),
            }
            for family, name, version in sorted(names, key=common_first)
        ),
        empty="No cryptographic library was found on any host.",
    )


def _span(found: CertificateStock, at: dt.datetime) -> str:
    ends = canonical.parse_timestamp(found.certificate.not_after)
    if ends < whole_second(at):
        return "expired"
    return next(
        name for name, days in _SPANS if days is None or ends - whole_second(at) <= dt.timedelta(days=days)
    )


def _expiry(total: Stock, at: dt.datetime) -> Table:
    spans = ("expired", *(name for name, _ in _SPANS))
    rows: list[dict[str, Any]] = []
    for span in spans:
        members = [found for found in total.certificates.values() if _span(found, at) == span]
        local = [found for found in members if "local" in found.origins]
        rows.append(
            {
                "expires": span,
                "local": len(local),
                "local_hosts": len({host for found in local for host in found.hosts}),
                "vendor": len(members) - len(local),
            }
        )
    return Table(
        name="expiry",
        title="Certificates by end of validity",
        columns=columns(
            ("expires", "expires"),
            ("local", "local"),
            ("local_hosts", "on hosts"),
            ("vendor", "only in packages"),
        ),
        rows=tuple(rows) if total.certificates else (),
        empty="No certificate was found on any host.",
    )


def _next(total: Stock, names: dict[str, str], table: AlgorithmTable, at: dt.datetime) -> Table:
    coming = sorted(
        (
            found
            for found in total.certificates.values()
            if "local" in found.origins and _span(found, at) != "expired"
        ),
        key=lambda found: (found.certificate.not_after, found.certificate.sha256),
    )
    return Table(
        name="next_to_expire",
        title=f"Local certificates that expire next (of {len(coming)}, at most {NEXT_MAX})",
        columns=columns(
            ("not_after", "not after"),
            ("subject", "subject"),
            ("key", "key"),
            ("hosts_shown", "hosts"),
            ("places", "where"),
            detail=("sha256", "hosts"),
        ),
        rows=tuple(
            {
                "not_after": found.certificate.not_after,
                "subject": found.certificate.subject,
                "key": table.words_of_key(found.certificate.key),
                "hosts_shown": hosts_words(sorted(names[host] for host in found.hosts)),
                "places": tuple(sorted(found.places)),
                "sha256": found.certificate.sha256,
                "hosts": [{"host": names[host], "host_id": host} for host in sorted(found.hosts)],
            }
            for found in coming[:NEXT_MAX]
        ),
        empty="No local certificate is valid and waiting to expire.",
    )
