# SPDX-License-Identifier: Apache-2.0
"""Which executable used which file, on which days? Folds opens into observations that outlive processes.

Pure and deterministic: the same events in any order give the same observations. Nothing that names one
process or one moment is kept; the day is as fine as time gets.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from agent.kernel.probes.file_open import FileOpen

Outcome = Literal["opened", "denied", "missing", "failed"]

# A build machine may open every certificate of a bundle from a thousand compilers. What is beyond this is
# counted.
OBSERVATIONS_MAX = 10_000

_OUTCOMES: dict[int, Outcome] = {
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
}


class Observation(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One executable's use of one file.

    Attributes:
        exe: the executable, or `[comm]` where its path is not known.
        unit: whatever the caller tells processes apart by: a systemd unit, a container's image; may be empty.
        file: the file, as in the events.
        first_day: day of the first open, YYYY-MM-DD in UTC.
        last_day: day of the last one.
        count: how many.
        is_read: it was opened for reading, or that was tried.
        is_written: the same for writing.
        outcomes: how many were opened, denied, missing, or failed otherwise.
    """

    exe: str
    unit: str
    file: str
    first_day: str
    last_day: str
    count: int
    is_read: bool = False
    is_written: bool = False
    outcomes: dict[Outcome, int]


class Folded(NamedTuple):
    """Observations sorted by exe, unit and file, and how many events found no place among them."""

    observations: tuple[Observation, ...]
    overflow: int


def fold(
    events: Iterable[FileOpen], unit: Callable[[FileOpen], str], observations_max: int = OBSERVATIONS_MAX
) -> Folded:
    """Fold a stream of opens; it is read once, and only the observations are held in memory.

    Args:
        events: opens, each standing for `count` of them.
        unit: what the process of an event belongs to.
        observations_max: how many different observations to keep; which ones then depends on the order.
    """
    kept: dict[tuple[str, str, str], Observation] = {}
    overflow = 0
    for event in events:
        one = observe(event, unit(event))
        key = (one.exe, one.unit, one.file)
        if key in kept:
            kept[key] = merge(kept[key], one)
        elif len(kept) < observations_max:
            kept[key] = one
        else:
            overflow += event.count
    return Folded(tuple(kept[key] for key in sorted(kept)), overflow)


def observe(event: FileOpen, unit: str) -> Observation:
    """What one event says."""
    day = event.timestamp[:10]
    access = event.flags.split("|")
    return Observation(
        exe=event.exe or f"[{event.process}]",
        unit=unit,
        file=event.file,
        first_day=day,
        last_day=day,
        count=event.count,
        is_read="O_RDONLY" in access or "O_RDWR" in access,
        is_written="O_WRONLY" in access or "O_RDWR" in access,
        outcomes={outcome(event.result): event.count},
    )


def merge(one: Observation, other: Observation) -> Observation:
    """Two observations of the same exe, unit and file as one; the order does not matter."""
    counts = {
        name: one.outcomes.get(name, 0) + other.outcomes.get(name, 0)
        for name in one.outcomes | other.outcomes
    }
    return Observation(
        exe=one.exe,
        unit=one.unit,
        file=one.file,
        first_day=min(one.first_day, other.first_day),
        last_day=max(one.last_day, other.last_day),
        count=one.count + other.count,
        is_read=one.is_read or other.is_read,
        is_written=one.is_written or other.is_written,
        outcomes=dict(sorted(counts.items())),
    )


def outcome(result: int) -> Outcome:
    """What the result of an open means for who tried it."""
    return "opened" if result >= 0 else _OUTCOMES.get(-result, "failed")
