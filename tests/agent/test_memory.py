# SPDX-License-Identifier: Apache-2.0
"""Sampled sections: in when seen, out when unseen for some days."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from agent import memory
from agent.model.asset import LibraryUse
from agent.model.canonical import MalformedDocumentError
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.scanners import Scan, Spec
from agent.state import StateDirectory

DAY = dt.date(2026, 11, 21)
SPEC = Spec(detector=1, reads=(), sampled=True)


def see(remembered: memory.Memory, entries: list[Entry], day: dt.date, spec: Spec = SPEC) -> list[Entry]:
    """What the section holds after a look that found these."""
    return remembered.see("processes", spec, Scan(entries=entries), day).entries


def use(name: str, build_id: str | None = None) -> Entry:
    """A library that was seen in use."""
    return Entry(key=name, asset=LibraryUse(family="openssl", name=name, build_id=build_id), where=Location())


def test_an_entry_leaves_when_it_is_unseen_for_some_days() -> None:
    """And not a day before: a weekly job is still in use."""
    remembered = memory.Memory()
    see(remembered, [use("weekly")], DAY)

    assert see(remembered, [use("daily")], DAY + dt.timedelta(days=memory.KEEP_DAYS)) == [
        use("daily"),
        use("weekly"),
    ]
    later = remembered.recall("processes", SPEC, DAY + dt.timedelta(days=memory.KEEP_DAYS + 1))
    assert later.entries == [use("daily")]
    assert later.status == "complete"


def test_a_section_at_which_nobody_looks_any_more_is_absent() -> None:
    """What was in use a month ago says nothing of today."""
    remembered = memory.Memory()
    see(remembered, [use("libssl")], DAY)

    late = remembered.recall("processes", SPEC, DAY + dt.timedelta(days=30))

    assert (late.status, late.entries) == ("absent", [])
    assert memory.Memory().recall("processes", SPEC, DAY).status == "absent"


def test_what_the_last_look_lost_is_remembered_with_it() -> None:
    """A run between two windows must not look more complete than the window was."""
    remembered = memory.Memory()
    remembered.see("observed_files", SPEC, Scan(skipped={"lost": 3, "vanished": 2}, rung="libbpf CO-RE"), DAY)

    recalled = remembered.recall("observed_files", SPEC, DAY)

    assert (recalled.status, recalled.skipped, recalled.rung) == ("partial", {"lost": 3}, "libbpf CO-RE")


def test_what_is_seen_again_is_what_counts() -> None:
    """An upgraded library under the same key replaces the old one."""
    remembered = memory.Memory()
    see(remembered, [use("libssl", "aa")], DAY)

    assert see(remembered, [use("libssl", "bb")], DAY) == [use("libssl", "bb")]


def test_a_replaced_library_is_forgotten_when_it_is_no_longer_mapped() -> None:
    """After the restart there is nothing left to restart, and no report may say so for a week."""
    remembered = memory.Memory()
    mapped = Entry(key="x", asset=LibraryUse(family="openssl", name="libssl", deleted=True), where=Location())
    assert see(remembered, [mapped, use("libssl")], DAY) == [use("libssl"), mapped]

    assert see(remembered, [], DAY) == [use("libssl")]


def test_two_looks_on_one_day_remember_the_same_bytes() -> None:
    """Day-granular: an unchanged host gives an unchanged document."""
    first, second = memory.Memory(), memory.Memory()
    see(first, [use("a"), use("b")], DAY)
    see(second, [use("b")], DAY)
    see(second, [use("b"), use("a")], DAY)

    assert first.encode() == second.encode()


def test_a_step_of_the_detector_forgets() -> None:
    """What an older reading called by another key must not linger."""
    remembered = memory.Memory()
    see(remembered, [use("old name")], DAY)

    assert see(remembered, [use("new name")], DAY, Spec(detector=2, reads=())) == [use("new name")]


def test_memory_reads_back_and_a_broken_one_is_refused() -> None:
    """The caller starts a new one and says so."""
    remembered = memory.Memory()
    see(remembered, [use("a")], DAY)

    assert memory.decode(remembered.encode()).encode() == remembered.encode()
    for broken in (b"", b"\xff", b"[]", remembered.encode()[:-3]):
        with pytest.raises(MalformedDocumentError):
            memory.decode(broken)


def test_a_damaged_memory_is_set_aside_and_said(tmp_path: Path) -> None:
    """The agent goes on, and the file is there to be looked at."""
    os.chmod(tmp_path, 0o700)
    with StateDirectory(str(tmp_path / "state")) as state:
        remembered = memory.Memory()
        see(remembered, [use("a")], DAY)
        memory.save(state, remembered)
        assert memory.load(state)[0].encode() == remembered.encode()

        state.write("memory", b"{")
        found, complaint = memory.load(state)

        assert found.sections == {}
        assert complaint is not None
        assert "quarantine" in complaint
        assert memory.load(state)[1] is None


def test_names_that_fill_the_memory_crowd_out_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user of a host chooses the names of his programs; the file must stay one that we read again."""
    # Given a memory that holds little
    monkeypatch.setattr(memory, "_SECTION_BYTES_MAX", 2000)
    remembered = memory.Memory()
    see(remembered, [use("/usr/sbin/nginx")], DAY)

    # When somebody's programs have long names
    long = [use(f"/home/alice/{'x' * 150}/{number}") for number in range(100)]
    looked = remembered.see("processes", SPEC, Scan(entries=[*long, use("/usr/sbin/sshd")]), DAY)

    # Then the others are still there, and what was left is counted, in this look and after it
    names = {entry.key for entry in looked.entries}
    assert {"/usr/sbin/nginx", "/usr/sbin/sshd"} <= names
    assert looked.skipped == {"budget": 102 - len(names)}
    assert remembered.recall("processes", SPEC, DAY).skipped == looked.skipped
    assert len(remembered.encode()) < 2500
    assert (looked.status, looked.rung) == ("partial", None)
