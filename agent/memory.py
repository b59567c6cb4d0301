# SPDX-License-Identifier: Apache-2.0
"""What was seen in use lately? The agent's memory of its sampled sections.

An entry enters when it is seen and leaves when it was not seen for some days. Day-granular, so that two
scans on one day of an unchanged host remember the same. The file holds true names;
it is the agent's own and readable by nobody else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.model import canonical, limits
from agent.model.asset import LibraryUse
from agent.model.inventory import Entry, SkipReason
from agent.scanners import Scan, Spec
from agent.state import StateDirectory

# A job that runs weekly is still seen as in use; a month would hide that something has stopped.
KEEP_DAYS = 8
# What a section's two parts hold at most: more would find no place in a document.
_SECTION_BYTES_MAX = 2 * limits.PART_BYTES_MAX


class Remembered(Struct, omit_defaults=True, kw_only=True):
    """One entry of a sampled section and the day it was last seen."""

    entry: Entry
    day: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class SectionMemory(Struct, omit_defaults=True, kw_only=True):
    """What is remembered of one sampled section, and how its last look went."""

    detector: int
    seen: dict[str, Remembered] = {}
    looked: Annotated[str | None, Meta(description="Day of the last look.")] = None
    skipped: dict[SkipReason, int] = {}
    rung: str | None = None
    rung_reason: str | None = None


class Memory(Struct, omit_defaults=True, kw_only=True):
    """All sampled sections of this host."""

    sections: dict[str, SectionMemory] = {}

    def see(self, section: str, spec: Spec, scan: Scan, today: dt.date) -> Scan:
        """Remember what a look found today; answer the same look with all that was seen within KEEP_DAYS.

        A step of the detector forgets the section: what an older reading called by another key must not
        linger.
        """
        memory = self.sections.get(section)
        if memory is None or memory.detector != spec.detector:
            memory = self.sections[section] = SectionMemory(detector=spec.detector)
        memory.seen = {key: seen for key, seen in memory.seen.items() if not _is_momentary(seen.entry)}
        for entry in scan.entries:
            memory.seen[entry.key] = Remembered(entry=entry, day=today.isoformat())
        memory.looked = today.isoformat()
        entries, left = _fresh(memory, today)
        skipped = dict(scan.skipped)
        if left:
            skipped["budget"] = skipped.get("budget", 0) + left
        memory.skipped = {reason: count for reason, count in skipped.items() if reason != "vanished"}
        memory.rung, memory.rung_reason = scan.rung, scan.rung_reason
        return dataclasses.replace(scan, entries=entries, skipped=skipped)

    def recall(self, section: str, spec: Spec, today: dt.date) -> Scan:
        """The section as its last look left it, for a run in which nobody looked."""
        memory = self.sections.get(section)
        if memory is None or memory.detector != spec.detector or (memory.looked or "") < _oldest(today):
            return Scan(absent=f"nobody looked within {KEEP_DAYS} days")
        return Scan(
            entries=_fresh(memory, today)[0],
            skipped=dict(memory.skipped),
            rung=memory.rung,
            rung_reason=memory.rung_reason,
        )

    def encode(self) -> bytes:
        """Bytes for the memory's file."""
        return canonical.encode(self)


def decode(data: bytes) -> Memory:
    """The memory that was encoded.

    Raises:
        canonical.MalformedDocumentError: the bytes are not a memory of ours; the caller starts a new one and
        says so.
    """
    try:
        return msgspec.json.decode(data, type=Memory)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise canonical.MalformedDocumentError(
            f"the memory of sampled sections cannot be read: {error}"
        ) from error


def _fresh(memory: SectionMemory, today: dt.date) -> tuple[list[Entry], int]:
    """All that was seen within KEEP_DAYS, and how many of it found no place; what is older is forgotten."""
    fresh = {key: seen for key, seen in memory.seen.items() if seen.day >= _oldest(today)}
    sizes = {key: len(canonical.encode({key: seen})) for key, seen in fresh.items()}
    # The latest seen are kept, and of one day the smallest, so that long names crowd out nobody else's; ties
    # are broken by key, so that the same memory forgets the same.
    ranked = sorted(fresh, key=lambda key: (sizes[key], key))
    ranked.sort(key=lambda key: fresh[key].day, reverse=True)
    ends = itertools.accumulate(sizes[key] for key in ranked)
    kept = [key for key, end in zip(ranked, ends, strict=True) if end <= _SECTION_BYTES_MAX][
        : limits.ENTRIES_MAX
    ]
    memory.seen = {key: fresh[key] for key in sorted(kept)}
    return [seen.entry for seen in memory.seen.values()], len(fresh) - len(kept)


def _is_momentary(entry: Entry) -> bool:
    """Whether an entry is true only while it is seen: a restart ends the use of a replaced library."""
    return isinstance(entry.asset, LibraryUse) and entry.asset.deleted


def _oldest(today: dt.date) -> str:
    """The oldest day that still counts."""
    return (today - dt.timedelta(days=KEEP_DAYS)).isoformat()


_FILE = "memory"
# Two sections, full, and what is around them.
_FILE_BYTES_MAX = 4 * _SECTION_BYTES_MAX


def load(state: StateDirectory) -> tuple[Memory, str | None]:
    """The memory kept in a state directory, and a complaint when a damaged one was set aside.

    Raises:
        StateError: the directory cannot be read or trusted.
    """
    data = state.read(_FILE, _FILE_BYTES_MAX)
    if data is None:
        return Memory(), None
    try:
        return decode(data), None
    except canonical.MalformedDocumentError as error:
        state.set_aside(_FILE)
        return Memory(), f"{error}; it is in quarantine and a new one begins"


def save(state: StateDirectory, memory: Memory) -> None:
    """Keep the memory. Raises StateError."""
    state.write(_FILE, memory.encode())
