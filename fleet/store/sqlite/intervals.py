# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are put together from constants of this package; values are always bound
"""What were a host's sections at a moment? Rows of host_section, made back into what the manifest said."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from agent.model import canonical
from agent.model.inventory import PartDigests, SectionState, SkipReason, Status

# One interval as SectionState needs it. Every reader of intervals joins the same three tables.
STATE_COLUMNS = (
    "section.detector, section.sampled, vendor.digest, local.digest,"
    " host_section.status, host_section.reason, host_section.coverage"
)
STATE_JOINS = (
    "JOIN section ON section.id = host_section.section"
    " LEFT JOIN part AS vendor ON vendor.id = section.vendor_part"
    " LEFT JOIN part AS local ON local.id = section.local_part"
)


class _Coverage(msgspec.Struct, omit_defaults=True, kw_only=True, frozen=True):
    """What a SectionState says of how far its scanner got, beyond status and reason."""

    skipped: dict[SkipReason, int] = {}
    examples: tuple[str, ...] = ()
    rung: str | None = None
    rung_reason: str | None = None


@dataclass(frozen=True)
class Interval:
    """One section of a host since `valid_from`."""

    section: int
    valid_from: str
    state: SectionState


def coverage_of(state: SectionState) -> str | None:
    """The `coverage` column of a state; None where there is nothing to say."""
    text = canonical.encode(
        _Coverage(
            skipped=state.skipped, examples=state.examples, rung=state.rung, rung_reason=state.rung_reason
        )
    ).decode()
    return None if text == "{}" else text


# A fleet's hosts share most of their sections, so most rows of a snapshot are the same few states.
@functools.lru_cache(maxsize=16384)
def state_of(
    detector: int,
    sampled: int,
    vendor: str | None,
    local: str | None,
    status: Status,
    reason: str | None,
    coverage: str | None,
) -> SectionState:
    """The state that a row with STATE_COLUMNS was made of."""
    covered = msgspec.json.decode(coverage, type=_Coverage) if coverage else _Coverage()
    return SectionState(
        status=status,
        detector=detector,
        sampled=bool(sampled),
        reason=reason,
        skipped=covered.skipped,
        examples=covered.examples,
        rung=covered.rung,
        rung_reason=covered.rung_reason,
        parts=PartDigests(vendor=vendor, local=local),
    )


def open_intervals(db: sqlite3.Connection, host: int) -> dict[str, Interval]:
    """The host's sections as of now, by name."""
    rows = db.execute(
        "SELECT host_section.name, host_section.section, host_section.valid_from, "
        + STATE_COLUMNS
        + " FROM host_section "
        + STATE_JOINS
        + " WHERE host_section.host = ? AND host_section.valid_to IS NULL",
        (host,),
    )
    return {row[0]: Interval(row[1], row[2], state_of(*row[3:])) for row in rows}


def sections_at(
    db: sqlite3.Connection, at: str | None, host: int | None
) -> Iterator[tuple[int, str, SectionState]]:
    """Host, name and state of every section at that moment (None: now), of one host or all."""
    where, values = ["host_section.valid_to IS NULL"], list[object]()
    if at is not None:
        where = [
            "host_section.valid_from <= ?",
            "(host_section.valid_to IS NULL OR host_section.valid_to > ?)",
        ]
        values = [at, at]
    if host is not None:
        where.append("host_section.host = ?")
        values.append(host)
    rows = db.execute(
        "SELECT host_section.host, host_section.name, "
        + STATE_COLUMNS
        + " FROM host_section "
        + STATE_JOINS
        + " WHERE "
        + " AND ".join(where)
        + " ORDER BY host_section.host, host_section.name",
        values,
    )
    for row in rows:
        yield row[0], row[1], state_of(*row[2:])
