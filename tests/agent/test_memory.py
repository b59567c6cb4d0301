# SPDX-License-Identifier: Apache-2.0
"""Sampled sections: in when seen, out when unseen for some days."""

from __future__ import annotations

import datetime as dt

import pytest

from agent import memory
from agent.model.asset import LibraryUse
from agent.model.canonical import MalformedDocumentError
from agent.model.inventory import Entry
from agent.model.location import Location

DAY = dt.date(2026, 11, 21)


def use(name: str, build_id: str | None = None) -> Entry:
    """A library that was seen in use."""
    return Entry(key=name, asset=LibraryUse(family="openssl", name=name, build_id=build_id), where=Location())


def test_an_entry_leaves_when_it_is_unseen_for_some_days() -> None:
    """And not a day before: a weekly job is still in use."""
    remembered = memory.Memory()
    remembered.see("processes", 1, [use("weekly")], DAY)

    assert remembered.see("processes", 1, [use("daily")], DAY + dt.timedelta(days=memory.KEEP_DAYS)) == [
        use("daily"),
        use("weekly"),
    ]
    assert remembered.recall("processes", DAY + dt.timedelta(days=memory.KEEP_DAYS + 1)) == [use("daily")]


def test_what_is_seen_again_is_what_counts() -> None:
    """An upgraded library under the same key replaces the old one."""
    remembered = memory.Memory()
    remembered.see("processes", 1, [use("libssl", "aa")], DAY)

    assert remembered.see("processes", 1, [use("libssl", "bb")], DAY) == [use("libssl", "bb")]


def test_two_looks_on_one_day_remember_the_same_bytes() -> None:
    """Day-granular: an unchanged host gives an unchanged document."""
    first, second = memory.Memory(), memory.Memory()
    first.see("processes", 1, [use("a"), use("b")], DAY)
    second.see("processes", 1, [use("b")], DAY)
    second.see("processes", 1, [use("b"), use("a")], DAY)

    assert first.encode() == second.encode()


def test_a_step_of_the_detector_forgets() -> None:
    """What an older reading called by another key must not linger."""
    remembered = memory.Memory()
    remembered.see("processes", 1, [use("old name")], DAY)

    assert remembered.see("processes", 2, [use("new name")], DAY) == [use("new name")]


def test_memory_reads_back_and_a_broken_one_is_refused() -> None:
    """The caller starts a new one and says so."""
    remembered = memory.Memory()
    remembered.see("processes", 1, [use("a")], DAY)

    assert memory.decode(remembered.encode()).encode() == remembered.encode()
    for broken in (b"", b"\xff", b"[]", remembered.encode()[:-3]):
        with pytest.raises(MalformedDocumentError):
            memory.decode(broken)
