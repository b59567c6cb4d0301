# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are put together from constants of this package; values are always bound
"""Who did what to what, and did nobody change the record? A chain: each hash covers the one before."""

from __future__ import annotations

import hashlib
import sqlite3

from agent.model import canonical
from fleet.store.records import AuditRecord

# What the first record follows.
_GENESIS = "0" * 64
_COLUMNS = "id, at, actor, action, subject, detail, previous, hash"


def append(
    db: sqlite3.Connection, *, at: str, actor: str, action: str, subject: str, **detail: object
) -> None:
    """Add one record; the caller's transaction makes the chain gapless. No secret may be in the details."""
    row = db.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    previous = row[0] if row else _GENESIS
    text = canonical.encode({name: value for name, value in detail.items() if value is not None}).decode()
    fields = (at, actor, action, subject, text, previous)
    db.execute(
        "INSERT INTO audit (at, actor, action, subject, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*fields, _hash(*fields)),
    )


def read(db: sqlite3.Connection, after: int, limit: int) -> list[AuditRecord]:
    """Records with an id beyond `after`, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    return [
        AuditRecord(
            audit_id=row[0],
            at=row[1],
            actor=row[2],
            action=row[3],
            subject=row[4],
            detail=row[5],
            previous=row[6],
            hash=row[7],
        )
        for row in rows
    ]


def first_broken(db: sqlite3.Connection) -> int | None:
    """The id of the first record that does not follow from its content and the one before; None when all do.

    A chain cut off at its end still holds; only a copy of its last hash kept elsewhere shows that.
    """
    previous = _GENESIS
    for number, *fields, digest in db.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY id"):
        if fields[-1] != previous or _hash(*fields) != digest:
            return int(number)
        previous = digest
    return None


def _hash(*fields: str) -> str:
    return hashlib.sha256(canonical.encode(fields)).hexdigest()
