# SPDX-License-Identifier: Apache-2.0
"""What was seen in use lately? The agent's memory of its sampled sections.

An entry enters when it is seen and leaves when it was not seen for some days. Day-granular, so that two
scans on one day of an unchanged host remember the same. The file holds true names;
it is the agent's own and readable by nobody else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.model import canonical, limits
from agent.model.inventory import Entry

# A job that runs weekly is still seen as in use; a month would hide that something has stopped.
KEEP_DAYS = 8


class Remembered(Struct, omit_defaults=True, kw_only=True):
    """One entry of a sampled section and the day it was last seen."""

    entry: Entry
    day: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class SectionMemory(Struct, omit_defaults=True, kw_only=True):
    """What is remembered of one sampled section, and how its last look went."""

    detector: int
    seen: dict[str, Remembered] = {}
    status: str = "complete"
    reason: str | None = None
    rung: str | None = None
    rung_reason: str | None = None


class Memory(Struct, omit_defaults=True, kw_only=True):
    """All sampled sections of this host."""

    sections: dict[str, SectionMemory] = {}

    def see(self, section: str, detector: int, entries: Iterable[Entry], today: dt.date) -> list[Entry]:
        """Remember what was seen today; answer all that was seen within KEEP_DAYS.

        A step of the detector forgets the section: what an older reading called by another key must not
        linger.
        """
        memory = self.sections.get(section)
        if memory is None or memory.detector != detector:
            memory = self.sections[section] = SectionMemory(detector=detector)
        for entry in entries:
            memory.seen[entry.key] = Remembered(entry=entry, day=today.isoformat())
        return self.recall(section, today)

    def recall(self, section: str, today: dt.date) -> list[Entry]:
        """All that was seen within KEEP_DAYS; what is older is forgotten."""
        memory = self.sections.get(section)
        if memory is None:
            return []
        oldest = (today - dt.timedelta(days=KEEP_DAYS)).isoformat()
        kept = {key: seen for key, seen in memory.seen.items() if seen.day >= oldest}
        if len(kept) > limits.ENTRIES_MAX:
            # The latest seen are kept; ties are broken by key so that the same memory forgets the same.
            ranked = sorted(kept, key=lambda key: (kept[key].day, key), reverse=True)[: limits.ENTRIES_MAX]
            kept = {key: kept[key] for key in ranked}
        memory.seen = kept
        return [seen.entry for _, seen in sorted(kept.items())]

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
