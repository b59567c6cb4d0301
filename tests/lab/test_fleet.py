# SPDX-License-Identifier: Apache-2.0
"""The product on real hosts: the frozen agent posts over the network, and what is planted is found."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import planted
from tests.lab.fixtures import up_or_skip
from tests.lab.fleet import AGENT, Fleet
from tests.lab.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

YEAR = dt.timedelta(days=365)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path) -> Iterator[Fleet]:
    """web1 and db1 are equal; web2 differs from them in what is planted. All are enrolled and have posted."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    site = planted.certificate("site.example.org", 1, ends=now + YEAR)
    renewed = planted.certificate("site.example.org", 2, ends=now + 2 * YEAR)
    specs = [
        planted.plain("web1", site),
        planted.plain("web2", renewed, tls_library="libgnutls.so.30"),
        planted.plain("db1", site),
    ]
    with up_or_skip(Lab(specs, init="systemd")) as lab:
        fleet = Fleet(lab, tmp_path_factory.mktemp("fleet") / "data", frozen_agent)
        fleet.serve()
        lab["web2"].write(planted.EXTRA, planted.certificate("extra.example.org", 3, ends=now + YEAR))
        planted.upgrade_app_library(lab["web2"])
        for host in lab:
            fleet.enrol(host)
            fleet.post(host)
        yield fleet


def names(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """What a difference's rows are about: section, what happened, key."""
    return {(row["section"], row["change"], row["key"]) for row in rows}


def uses(fleet: Fleet, host: str, unit: str) -> set[str]:
    """Keys of the recognised libraries of a unit, from the kernel's own list of what it has mapped."""
    known = ("libssl.", "libcrypto.", "libgnutls.", "libnettle.", "libhogweed.", "libp11-kit.")
    files = planted.mapped_files(fleet.lab[host], unit)
    return {f"{planted.exe()} {unit} {file}" for file in files if Path(file).name.startswith(known)}


def test_two_equal_hosts_do_not_differ(fleet: Fleet) -> None:
    """Nothing of what makes a host another host (name, machine id, ssh keys, times) is a difference."""
    found = fleet.ask_json("diff", "web1", "db1")

    assert found["tables"]["drift"] == []
    assert found["tables"]["usage"] == []
    assert found["tables"]["reinterpreted"] == []


def test_the_planted_differences_are_found_no_more_and_no_fewer(fleet: Fleet) -> None:
    """A renewed certificate, one more, an upgraded library still mapped, other libraries in a service."""
    # Given web1 and web2, and what the kernel says their services have mapped
    before, after = uses(fleet, "web1", "tls.service"), uses(fleet, "web2", "tls.service")
    assert any("libssl" in use for use in before)
    assert any("libgnutls" in use for use in after)
    app = f"{planted.exe()} app.service {planted.APP_LIBRARY}"

    # When an operator asks what is different
    found = fleet.ask_json("diff", "web1", "web2")["tables"]

    # Then drift and usage are exactly what was planted
    assert names(found["drift"]) == {
        ("certificates", "changed", planted.SITE),
        ("certificates", "added", planted.EXTRA),
        ("libraries", "changed", planted.APP_LIBRARY),
    }
    assert names(found["usage"]) == {
        ("processes", "removed", app),
        ("processes", "added", f"{app} (deleted)"),
        *(("processes", "removed", use) for use in before - after),
        *(("processes", "added", use) for use in after - before),
    }
    assert found["reinterpreted"] == []


def test_the_difference_reads_the_other_way_round(fleet: Fleet) -> None:
    """What one host has more, the other has less."""
    mirrored = {"added": "removed", "removed": "added", "changed": "changed"}
    there = fleet.ask_json("diff", "web1", "web2")["tables"]
    back = fleet.ask_json("diff", "web2", "web1")["tables"]

    for table in ("drift", "usage"):
        turned = {(section, mirrored[change], key) for section, change, key in names(back[table])}
        assert turned == names(there[table])


def test_an_upgraded_library_that_is_still_mapped_is_a_finding(fleet: Fleet) -> None:
    """On the one host where it is so, with the process, the unit and the file as evidence."""
    found = fleet.ask_json("report", "compliance")["tables"]

    (finding,) = [row for row in found["findings"] if row["rule"] == "library-deleted-still-mapped"]
    assert [host["host"] for host in finding["hosts"]] == ["web2"]
    assert finding["location"]["unit"] == "app.service"
    assert finding["location"]["path"] == planted.APP_LIBRARY
    assert finding["location"]["exe"] == planted.exe()


def test_an_unchanged_host_is_unchanged_to_the_collector(fleet: Fleet) -> None:
    """Same sections, same digests: nothing is stored again."""
    assert "unchanged" in fleet.post(fleet.lab["db1"])


def test_then_and_now_name_what_happened_in_between(fleet: Fleet) -> None:
    """An expired certificate comes and goes: the finding is new, and then resolved."""
    # Given a moment at which all was well on db1
    host = fleet.lab["db1"]
    fleet.post(host)
    then = _moment()
    ended = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=2)

    # When an expired certificate is put there and the host posts
    host.write(planted.EXPIRED, planted.certificate("old.example.org", 9, ends=ended))
    assert "accepted" in fleet.post(host)

    # Then the difference of the host and of its findings is that certificate
    drift = fleet.ask_json("diff", "db1", "--since", then)["tables"]["drift"]
    assert names(drift) == {("certificates", "added", planted.EXPIRED)}
    changes = fleet.ask_json("report", "compliance", "--diff", "--since", then)["tables"]
    assert _about(changes["new"]) == {("db1", "cert-expired", planted.EXPIRED)}
    assert changes["resolved"] == []

    # And when it is taken away, the finding of a moment ago is resolved
    between = _moment()
    host.run(["rm", planted.EXPIRED])
    fleet.post(host)
    changes = fleet.ask_json("report", "compliance", "--diff", "--since", between)["tables"]
    assert _about(changes["resolved"]) == {("db1", "cert-expired", planted.EXPIRED)}
    assert changes["new"] == []


@pytest.mark.kernel
def test_a_window_shows_who_reads_which_file(fleet: Fleet) -> None:
    """Observed through eBPF inside the host, folded, and asked of the collector."""
    host = fleet.lab["web1"]
    host.write("/etc/systemd/system/reader.service", _reader(planted.SITE))
    host.run("systemctl daemon-reload && systemctl start reader.service")
    try:
        fleet.post(host, "--window", "2")
    finally:
        host.run("systemctl stop reader.service")

    shown = fleet.ask_json("show", "web1", "--section", "observed_files")

    state = next(row for row in shown["tables"]["sections"] if row["section"] == "observed_files")
    if state["status"] == "failed":
        pytest.skip(f"this kernel does not let us watch: {shown['unknown']}")
    cat = host.run(["readlink", "-f", "/usr/bin/cat"]).stdout.strip()
    key = f"{cat} reader.service {planted.SITE}"
    assert key in {row["key"] for row in shown["tables"]["entries"]}
    # And nothing of the machine's other processes came in: they are not this host's
    assert not [row for row in shown["tables"]["entries"] if "/tests/" in row["key"]]


def test_a_host_that_was_cut_off_posts_what_it_spooled(fleet: Fleet) -> None:
    """The latest state waits on disk; nothing is lost, and an older one is not sent after it."""
    host = fleet.lab["db1"]
    host.link_down()
    try:
        host.write(
            planted.EXTRA, planted.certificate("cut.example.org", 4, ends=dt.datetime.now(dt.UTC) + YEAR)
        )
        fleet.post(host, code=1)
    finally:
        host.link_up()

    said = host.run([AGENT, "post"], timeout_s=60).stderr

    assert "accepted" in said
    drift = fleet.ask_json("diff", "web1", "db1")["tables"]["drift"]
    assert ("certificates", "added", planted.EXTRA) in names(drift)
    host.run(["rm", planted.EXTRA])
    fleet.post(host)


def test_this_machine_can_be_one_of_the_fleet(fleet: Fleet) -> None:
    """As in the demonstration: hundreds of real certificates and libraries, through the same door."""
    assert "accepted" in fleet.post_machine()

    hosts = fleet.ask_json("hosts")["tables"]["hosts"]
    assert len(hosts) == 4


def _about(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(host["host"], row["rule"], row["key"]) for row in rows for host in row["hosts"]}


def _moment() -> str:
    """Now, as a moment that later posts are after."""
    time.sleep(0.01)
    return dt.datetime.now(dt.UTC).isoformat()


def _reader(path: str) -> str:
    return f"""\
[Service]
ExecStart=/bin/sh -c 'while :; do /usr/bin/cat {path} >/dev/null; sleep 0.1; done'
"""
