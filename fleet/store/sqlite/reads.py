# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are put together from constants of this package; values are always bound
"""What does the store know? Questions that change nothing."""

from __future__ import annotations

import base64
import sqlite3
import zlib
from typing import Any

import msgspec

from agent.model.inventory import SectionState
from fleet.store.records import Change, Host, Snapshot
from fleet.store.sqlite.intervals import STATE_COLUMNS, STATE_JOINS, sections_at, state_of

_HOST = (
    "SELECT host.id, host.host_id, host.kind, host.name, host.public_key, host.enrolled_at,"
    " host.group_name, host.labels, host.machine_id_sha256, host.os, host.kernel, host.arch,"
    " host.agent_version, host.revoked_at, host_seen.last_seen, host_seen.skew_ms, host_seen.seq"
    " FROM host LEFT JOIN host_seen ON host_seen.host = host.id"
)


def host(db: sqlite3.Connection, host_id: str) -> Host | None:
    """One host by its identity."""
    row = db.execute(_HOST + " WHERE host.host_id = ?", (host_id,)).fetchone()
    return None if row is None else _host(row)


def snapshots(db: sqlite3.Connection, at: str | None, host_id: str | None) -> list[Snapshot]:
    """Hosts as they are, or were; see the contract. The caller holds one read transaction around it."""
    where, values = ["host.revoked_at IS NULL"], list[object]()
    if at is not None:
        where = ["host.enrolled_at <= ?", "(host.revoked_at IS NULL OR host.revoked_at > ?)"]
        values = [at, at]
    if host_id is not None:
        where.append("host.host_id = ?")
        values.append(host_id)
    rows = db.execute(_HOST + " WHERE " + " AND ".join(where) + " ORDER BY host.host_id", values).fetchall()
    only = rows[0][0] if host_id is not None and rows else None
    found: dict[int, Snapshot] = {}
    for row in rows:
        one = _host(row)
        last_seen = one.last_seen if at is None else _last_seen_at(db, row[0], one.last_seen, at)
        found[row[0]] = Snapshot(host=one, last_seen=last_seen, sections={})
    for number, name, state in sections_at(db, at, only) if found else ():
        if number in found:
            found[number].sections[name] = state
    return list(found.values())


def manifest(db: sqlite3.Connection, host_id: str) -> tuple[bytes, bytes] | None:
    """The newest changed manifest as signed, and its signature document."""
    row = db.execute(
        "SELECT manifest_zlib, signature FROM state JOIN host ON host.id = state.host WHERE host.host_id = ?",
        (host_id,),
    ).fetchone()
    return None if row is None else (zlib.decompress(row[0]), row[1].encode())


def changes(db: sqlite3.Connection, after: int, limit: int, host_id: str | None) -> list[Change]:
    """Changes beyond a cursor, each with the states it led from and to."""
    rows = db.execute(
        "SELECT change.cursor, change.at, host.host_id, change.name, change.kind, change.host"
        " FROM change JOIN host ON host.id = change.host"
        " WHERE change.cursor > ?"
        + (" AND host.host_id = ?" if host_id else "")
        + " ORDER BY change.cursor LIMIT ?",
        (after, host_id, limit) if host_id else (after, limit),
    )
    return [
        Change(
            cursor=row[0],
            at=row[1],
            host_id=row[2],
            section=row[3],
            kind=row[4],
            old=_state(db, "valid_to", row[5], row[3], row[1]),
            new=_state(db, "valid_from", row[5], row[3], row[1]),
        )
        for row in rows.fetchall()
    ]


def _state(db: sqlite3.Connection, end: str, number: int, name: str, at: str) -> SectionState | None:
    row = db.execute(
        "SELECT "
        + STATE_COLUMNS
        + " FROM host_section "
        + STATE_JOINS
        + f" WHERE host_section.host = ? AND host_section.name = ? AND host_section.{end} = ?",
        (number, name, at),
    ).fetchone()
    return None if row is None else state_of(*row)


def _last_seen_at(db: sqlite3.Connection, number: int, last_seen: str | None, at: str) -> str | None:
    """When the host had last been seen at that moment, to within the time that counts as no silence."""
    if last_seen is None or last_seen <= at:
        return last_seen
    row = db.execute(
        "SELECT silent_from FROM host_silence WHERE host = ? AND silent_from <= ? AND silent_to > ?",
        (number, at, at),
    ).fetchone()
    if row is not None:
        return str(row[0])
    first = db.execute("SELECT first_seen FROM host_seen WHERE host = ?", (number,)).fetchone()
    return at if first[0] <= at else None


def _host(row: tuple[Any, ...]) -> Host:
    return Host(
        host_id=row[1],
        kind=row[2],
        name=row[3],
        public_key=base64.b64decode(row[4]),
        enrolled_at=row[5],
        group=row[6],
        labels=msgspec.json.decode(row[7], type=dict[str, str]),
        machine_id_sha256=row[8],
        os=row[9],
        kernel=row[10],
        arch=row[11],
        agent_version=row[12],
        revoked_at=row[13],
        last_seen=row[14],
        skew_ms=row[15],
        seq=row[16],
    )
