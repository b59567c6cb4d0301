# SPDX-License-Identifier: Apache-2.0
"""How are parts kept, taken apart, and thrown away again?"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable

from agent.model import canonical
from agent.model.asset import Asset, PublicKey
from agent.model.inventory import Entry, PartDigests, SectionState, decode_part
from fleet import errors
from fleet.store.records import Garbage


def keep(db: sqlite3.Connection, digest: str, body: bytes, at: str) -> int:
    """The id of the part with these bytes, kept now if it was not yet."""
    row = db.execute("SELECT id FROM part WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        return int(row[0])
    added = db.execute(
        "INSERT INTO part (digest, bytes, received_at, body_zlib) VALUES (?, ?, ?, ?)",
        (digest, len(body), at, zlib.compress(body)),
    )
    assert added.lastrowid is not None
    return added.lastrowid


def lease(db: sqlite3.Connection, part: int, host: int, until: str) -> None:
    """Let the host refer to the part, and keep the part, until then."""
    db.execute(
        "INSERT INTO part_lease (part, host, leased_until) VALUES (?, ?, ?)"
        " ON CONFLICT (part, host) DO UPDATE SET leased_until = excluded.leased_until",
        (part, host, until),
    )


def body(db: sqlite3.Connection, digest: str) -> bytes | None:
    """The bytes of a part as they came.

    Raises:
        errors.StoreError: what is kept is not what came.
    """
    row = db.execute("SELECT body_zlib FROM part WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    try:
        found = zlib.decompress(row[0])
    except zlib.error as error:
        raise errors.StoreError(f"part {digest} is damaged in the database: {error}") from error
    if canonical.digest(found) != digest:
        raise errors.StoreError(f"part {digest} is damaged in the database: its digest is another")
    return found


def available(db: sqlite3.Connection, host: int, section: str, digest: str) -> bool:
    """Whether the part is here and this host may refer to it in that section.

    It may if it has uploaded it, or has referred to it there before.
    """
    row = db.execute("SELECT id FROM part WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return False
    return (
        db.execute(
            "SELECT 1 FROM part_lease WHERE part = ? AND host = ?"
            " UNION ALL SELECT 1 FROM section JOIN host_section ON host_section.section = section.id"
            " AND host_section.host = ? AND host_section.name = ?"
            " WHERE section.name = ? AND (section.vendor_part = ? OR section.local_part = ?) LIMIT 1",
            (row[0], host, host, section, section, row[0], row[0]),
        ).fetchone()
        is not None
    )


def section_id(db: sqlite3.Connection, name: str, state: SectionState) -> int:
    """The id of the section with this content, made now if no host had it yet. Its parts must be here."""
    vendor, local = _part_ids(db, state.parts)
    row = db.execute(
        "SELECT id FROM section WHERE name = ? AND detector = ? AND sampled = ?"
        " AND COALESCE(vendor_part, 0) = COALESCE(?, 0) AND COALESCE(local_part, 0) = COALESCE(?, 0)",
        (name, state.detector, state.sampled, vendor, local),
    ).fetchone()
    if row is not None:
        return int(row[0])
    added = db.execute(
        "INSERT INTO section (name, detector, sampled, vendor_part, local_part) VALUES (?, ?, ?, ?, ?)",
        (name, state.detector, state.sampled, vendor, local),
    )
    assert added.lastrowid is not None
    db.execute("INSERT INTO section_hosts (section, hosts) VALUES (?, 0)", (added.lastrowid,))
    for digest in (state.parts.vendor, state.parts.local):
        if digest is not None:
            _take_apart(db, digest)
    return added.lastrowid


def count(db: sqlite3.Connection, section: int, step: int) -> None:
    """One host more or less has the section now."""
    db.execute("UPDATE section_hosts SET hosts = hosts + ? WHERE section = ?", (step, section))


def collect_garbage(db: sqlite3.Connection, now: str, batch: int) -> Garbage:
    """Take away up to `batch` leases that have run out, and the parts among them that nothing else holds."""
    expired = db.execute(
        "SELECT part, host FROM part_lease WHERE leased_until <= ? ORDER BY leased_until LIMIT ?",
        (now, batch),
    ).fetchall()
    db.executemany("DELETE FROM part_lease WHERE part = ? AND host = ?", expired)
    parts = size = 0
    for part in sorted({part for part, _ in expired}):
        row = db.execute(
            "SELECT bytes FROM part WHERE id = ?"
            " AND NOT EXISTS (SELECT 1 FROM part_lease WHERE part_lease.part = part.id)"
            " AND NOT EXISTS (SELECT 1 FROM section WHERE section.vendor_part = part.id)"
            " AND NOT EXISTS (SELECT 1 FROM section WHERE section.local_part = part.id)",
            (part,),
        ).fetchone()
        if row is not None:
            db.execute("DELETE FROM part WHERE id = ?", (part,))
            parts += 1
            size += row[0]
    return Garbage(leases=len(expired), parts=parts, bytes=size)


def _part_ids(db: sqlite3.Connection, parts: PartDigests) -> tuple[int | None, int | None]:
    def one(digest: str | None) -> int | None:
        if digest is None:
            return None
        row = db.execute("SELECT id FROM part WHERE digest = ?", (digest,)).fetchone()
        assert row is not None, digest
        return int(row[0])

    return one(parts.vendor), one(parts.local)


def _take_apart(db: sqlite3.Connection, digest: str) -> None:
    """Write a part's entries, assets and locations, once."""
    part, entries = db.execute("SELECT id, entries FROM part WHERE digest = ?", (digest,)).fetchone()
    if entries is not None:
        return
    received = body(db, digest)
    assert received is not None
    found = decode_part(received)
    assets = [
        (_raw_digest(text), entry.asset, text) for entry in found for text in [canonical.encode(entry.asset)]
    ]
    locations = [
        (_raw_digest(text), entry.where, text) for entry in found for text in [canonical.encode(entry.where)]
    ]
    db.executemany(
        "INSERT INTO asset (digest, kind, name, version, algorithm, bits, not_after, spki_sha256, json)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        ((raw, *_columns(asset), text.decode()) for raw, asset, text in assets),
    )
    db.executemany(
        "INSERT INTO location (digest, path, package, json) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (digest) DO NOTHING",
        (
            (raw, where.path, where.package.name if where.package else None, text.decode())
            for raw, where, text in locations
        ),
    )
    db.executemany(
        "INSERT INTO entry (part, key, asset, location) VALUES (?, ?,"
        " (SELECT id FROM asset WHERE digest = ?), (SELECT id FROM location WHERE digest = ?))",
        _entry_rows(part, found, assets, locations),
    )
    db.execute("UPDATE part SET entries = ? WHERE id = ?", (len(found), part))


def _entry_rows(
    part: int,
    entries: tuple[Entry, ...],
    assets: Iterable[tuple[bytes, object, bytes]],
    locations: Iterable[tuple[bytes, object, bytes]],
) -> Iterable[tuple[int, str, bytes, bytes]]:
    for entry, asset, location in zip(entries, assets, locations, strict=True):
        yield part, entry.key, asset[0], location[0]


def _raw_digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _columns(
    asset: Asset,
) -> tuple[str, str | None, str | None, str | None, int | None, str | None, str | None]:
    """What of an asset is worth a column: kind, name, version, algorithm, bits, not_after, spki_sha256.

    Taken by the names fields have, so that a new kind of asset needs no line here.
    """
    key = getattr(asset, "key", None)
    key = key if isinstance(key, PublicKey) else None
    kind = asset.__struct_config__.tag
    assert isinstance(kind, str)
    return (
        kind,
        _text(asset, "subject", "name", "id", "release"),
        _text(asset, "version"),
        key.algorithm if key else _text(asset, "algorithm"),
        key.bits if key else None,
        _text(asset, "not_after"),
        key.spki_sha256 if key else _text(asset, "spki_sha256"),
    )


def _text(asset: Asset, *names: str) -> str | None:
    for name in names:
        value = getattr(asset, name, None)
        if isinstance(value, str):
            return value
    return None
