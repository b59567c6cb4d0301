# SPDX-License-Identifier: Apache-2.0
"""One run: scanners, perhaps a window, and what sampled sections remember from one run to the next."""

from __future__ import annotations

import datetime as dt

import pytest

from agent import collect, observe
from agent.document import Outcome
from agent.host import Host
from agent.memory import KEEP_DAYS, Memory
from agent.model.asset import FileUse
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.scanners import Scan, Spec

DAY = dt.date(2026, 11, 21)
STATE, SAMPLED = Spec(detector=1, reads=()), Spec(detector=1, reads=(), sampled=True)


def use(key: str) -> Entry:
    """A file that was seen in use."""
    return Entry(key=key, asset=FileUse(access=("read",)), where=Location(path=key))


def keys(outcomes: dict[str, Outcome], section: str) -> list[str]:
    """What a section holds."""
    scan = outcomes[section].scan
    assert scan is not None
    return [entry.key for entry in scan.entries]


def test_what_is_there_is_told_as_it_is_and_what_was_in_use_is_remembered() -> None:
    """Sampled sections only: a certificate that has gone has gone."""
    memory = Memory()
    first = {
        "files": Outcome(spec=STATE, scan=Scan(entries=[use("/old")])),
        "processes": Outcome(spec=SAMPLED, scan=Scan(entries=[use("/old")])),
    }
    later = {
        "files": Outcome(spec=STATE, scan=Scan(entries=[use("/new")])),
        "processes": Outcome(spec=SAMPLED, scan=Scan(entries=[use("/new")])),
    }
    collect.remember(first, memory, DAY)

    told = collect.remember(later, memory, DAY + dt.timedelta(days=1))

    assert keys(told, "files") == ["/new"]
    assert keys(told, "processes") == ["/new", "/old"]
    assert keys(later, "processes") == ["/new"]


def test_a_window_is_remembered_until_the_next_with_what_it_lost() -> None:
    """Runs between two windows must tell the same, or every window would be a change."""
    memory = Memory()
    window = Outcome(
        spec=observe.SPEC, scan=Scan(entries=[use("/seen.pem")], skipped={"lost": 2}, rung="libbpf")
    )
    collect.remember({observe.SECTION: window}, memory, DAY)

    for days in range(KEEP_DAYS + 1):
        told = collect.remember({}, memory, DAY + dt.timedelta(days=days))
        scan = told[observe.SECTION].scan
        assert scan is not None
        assert (keys(told, observe.SECTION), scan.status, scan.rung) == (["/seen.pem"], "partial", "libbpf")
    told = collect.remember({}, memory, DAY + dt.timedelta(days=KEEP_DAYS + 1))
    scan = told[observe.SECTION].scan
    assert scan is not None
    assert (scan.status, scan.reason) == ("absent", f"nobody looked within {KEEP_DAYS} days")


def test_being_remembered_keeps_nothing_alive() -> None:
    """What is only recalled is not seen: it leaves when its days are over."""
    memory = Memory()
    collect.remember(
        {observe.SECTION: Outcome(spec=observe.SPEC, scan=Scan(entries=[use("/a")]))}, memory, DAY
    )
    for days in range(1, KEEP_DAYS + 1):
        collect.remember({}, memory, DAY + dt.timedelta(days=days))
    again = Outcome(spec=observe.SPEC, scan=Scan(entries=[use("/b")]))

    told = collect.remember({observe.SECTION: again}, memory, DAY + dt.timedelta(days=KEEP_DAYS + 1))

    assert keys(told, observe.SECTION) == ["/b"]


def test_a_failure_is_told_and_forgets_nothing() -> None:
    """The kernel may refuse for a day; what was seen the day before is still so."""
    memory = Memory()
    collect.remember(
        {observe.SECTION: Outcome(spec=observe.SPEC, scan=Scan(entries=[use("/a")]))}, memory, DAY
    )

    failed = collect.remember({observe.SECTION: Outcome(spec=observe.SPEC, failure="refused")}, memory, DAY)

    assert failed[observe.SECTION].failure == "refused"
    assert keys(collect.remember({}, memory, DAY), observe.SECTION) == ["/a"]


def test_the_day_is_the_hosts_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment before midnight is still the old day, wherever the host stands."""
    host = Host()
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    for now_ns, day in (
        (0, "1970-01-01"),
        (86_400 * 10**9 - 1, "1970-01-01"),
        (86_400 * 10**9, "1970-01-02"),
    ):
        monkeypatch.setattr(host, "now_ns", lambda now_ns=now_ns: now_ns)
        assert collect.today(host).isoformat() == day
