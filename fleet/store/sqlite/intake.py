# SPDX-License-Identifier: Apache-2.0
"""How does a post become history? The rules of seq, the parts it needs, the intervals it opens and closes."""

from __future__ import annotations

import datetime as dt
import sqlite3
import zlib
from collections.abc import Iterable

import msgspec

from agent.model import canonical
from agent.model.inventory import Manifest, SectionState
from fleet.store.records import Accepted, Ahead, ChangeKind, HostGone, Missing, Post, PostOutcome, Unchanged
from fleet.store.sqlite import audit, content
from fleet.store.sqlite.intervals import Interval, coverage_of, open_intervals

# A host that posts once a day, two hours late, is not silent; one that misses a day is.
_SILENCE = dt.timedelta(hours=26)


def put_part(
    db: sqlite3.Connection, host_id: str, digest: str, body: bytes, leased_until: str, at: str
) -> bool:
    """Keep an upload under a lease of its host."""
    host = _host(db, host_id)
    if host is None:
        return False
    content.lease(db, content.keep(db, digest, body, at), host, leased_until)
    return True


def put_state(db: sqlite3.Connection, post: Post) -> PostOutcome:
    """Make the post the host's state, whole or not at all."""
    host = _host(db, post.host_id)
    if host is None:
        return HostGone()
    manifest = post.manifest
    seen = db.execute(
        "SELECT seq, manifest_digest, content_digest, answer, last_seen FROM host_seen WHERE host = ?",
        (host,),
    ).fetchone()
    digest = canonical.digest(post.manifest_bytes)
    if seen is not None:
        seq, seen_digest, _, answer, _ = seen
        if manifest.seq == seq and digest == seen_digest:
            return Accepted(seq) if answer == "accepted" else Unchanged(seq)
        if manifest.seq <= seq:
            return Ahead(seq)
    said = _said(post.manifest_bytes)
    now = canonical.timestamp(post.received_ns)
    if seen is not None and seen[2] == said:
        _record_losses(db, post, now)
        _see(db, host, post, now, (digest, said, "unchanged"), seen[4])
        return Unchanged(manifest.seq)
    before = open_intervals(db, host)
    changed = {
        name: state
        for name, state in manifest.sections.items()
        if name not in before or before[name].state != state
    }
    missing = _missing(db, host, changed, before, post.parts.keys())
    if missing:
        return Missing(missing)
    for part, body in post.parts.items():
        content.keep(db, part, body, now)
    at = _after(now, before.values())
    for name in sorted(changed):
        _begin(db, host, name, changed[name], before.get(name), at)
    vanished = before.keys() - manifest.sections.keys()
    for name in sorted(vanished):
        _close(db, host, name, before[name], at)
    for part in {part for state in changed.values() for part in _digests(state)}:
        db.execute(
            "DELETE FROM part_lease WHERE host = ? AND part = (SELECT id FROM part WHERE digest = ?)",
            (host, part),
        )
    answer = "accepted" if changed or vanished else "unchanged"
    _record_losses(db, post, now)
    _describe(db, host, manifest)
    _keep_manifest(db, host, post, now)
    _see(db, host, post, now, (digest, said, answer), seen[4] if seen else None)
    return Accepted(manifest.seq) if answer == "accepted" else Unchanged(manifest.seq)


def _record_losses(db: sqlite3.Connection, post: Post, now: str) -> None:
    """States that a host could not deliver are told once, and then it forgets them: so we must not.

    `live` itself says what is true only now, and is not kept where nothing else changed.
    """
    losses = msgspec.json.decode(post.live).get("spool")
    if losses:
        subject = f"host:{post.host_id}"
        audit.append(db, at=now, actor=subject, action="losses-told", subject=subject, losses=losses)


def close_all(db: sqlite3.Connection, host: int, now: str) -> None:
    """End every section of a host that will say nothing more."""
    before = open_intervals(db, host)
    at = _after(now, before.values())
    for name in sorted(before):
        _close(db, host, name, before[name], at)


def _close(db: sqlite3.Connection, host: int, name: str, interval: Interval, at: str) -> None:
    _end(db, host, name, interval, at)
    _record(db, host, name, at, "vanished", interval.section, None)


def _host(db: sqlite3.Connection, host_id: str) -> int | None:
    row = db.execute("SELECT id FROM host WHERE host_id = ? AND revoked_at IS NULL", (host_id,)).fetchone()
    return None if row is None else int(row[0])


def _said(manifest: bytes) -> str:
    """Digest of what a manifest says apart from its number and time: the same when nothing changed.

    Taken of the received fields, known to us or not, so that a newer agent's news are never taken for none.
    """
    document = msgspec.json.decode(manifest)
    del document["collected_at"]
    document.pop("seq", None)
    return canonical.digest(canonical.encode(document))


def _digests(state: SectionState) -> list[str]:
    return [digest for digest in (state.parts.vendor, state.parts.local) if digest is not None]


def _missing(
    db: sqlite3.Connection,
    host: int,
    changed: dict[str, SectionState],
    before: dict[str, Interval],
    brought: Iterable[str],
) -> tuple[str, ...]:
    """Parts that must be uploaded first: not here, or not shown by this host to be its own to name."""
    held = {digest for interval in before.values() for digest in _digests(interval.state)} | set(brought)
    wanted = {
        (name, digest) for name, state in changed.items() for digest in _digests(state) if digest not in held
    }
    return tuple(sorted({digest for name, digest in wanted if not content.available(db, host, name, digest)}))


def _begin(
    db: sqlite3.Connection, host: int, name: str, state: SectionState, before: Interval | None, at: str
) -> None:
    section = content.section_id(db, name, state)
    if before is not None:
        _end(db, host, name, before, at)
    db.execute(
        "INSERT INTO host_section (host, name, section, status, reason, coverage, valid_from)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (host, name, section, state.status, state.reason, coverage_of(state), at),
    )
    content.count(db, section, 1)
    _record(db, host, name, at, _kind(before, state), before.section if before else None, section)


def _end(db: sqlite3.Connection, host: int, name: str, interval: Interval, at: str) -> None:
    db.execute(
        "UPDATE host_section SET valid_to = ? WHERE host = ? AND name = ? AND valid_from = ?",
        (at, host, name, interval.valid_from),
    )
    content.count(db, interval.section, -1)


def _kind(before: Interval | None, state: SectionState) -> ChangeKind:
    if before is None:
        return "appeared"
    if (before.state.detector, before.state.sampled) != (state.detector, state.sampled):
        return "detector"
    return "status" if before.state.parts == state.parts else "content"


def _record(
    db: sqlite3.Connection, host: int, name: str, at: str, kind: ChangeKind, old: int | None, new: int | None
) -> None:
    db.execute(
        "INSERT INTO change (at, host, name, kind, old_section, new_section) VALUES (?, ?, ?, ?, ?, ?)",
        (at, host, name, kind, old, new),
    )


def _describe(db: sqlite3.Connection, host: int, manifest: Manifest) -> None:
    """What the host says of itself now."""
    identity = manifest.host
    db.execute(
        "UPDATE host SET name = ?, kind = ?, labels = ?, os = ?, kernel = ?, arch = ?, agent_version = ?,"
        " machine_id_sha256 = COALESCE(?, machine_id_sha256) WHERE id = ?",
        (
            identity.hostname,
            identity.kind,
            canonical.encode(identity.labels).decode(),
            identity.os,
            identity.kernel,
            identity.arch,
            manifest.agent.version,
            identity.machine_id_sha256,
            host,
        ),
    )


def _keep_manifest(db: sqlite3.Connection, host: int, post: Post, now: str) -> None:
    db.execute(
        "INSERT INTO state (host, seq, collected_at, received_at, signature, live, manifest_zlib)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET seq = excluded.seq,"
        " collected_at = excluded.collected_at, received_at = excluded.received_at,"
        " signature = excluded.signature, live = excluded.live, manifest_zlib = excluded.manifest_zlib",
        (
            host,
            post.manifest.seq,
            post.manifest.collected_at,
            now,
            post.signature.decode(),
            post.live.decode(),
            zlib.compress(post.manifest_bytes),
        ),
    )


def _see(
    db: sqlite3.Connection,
    host: int,
    post: Post,
    now: str,
    answered: tuple[str, str, str],
    last_seen: str | None,
) -> None:
    """Remember that the host was here, what it was answered, and how long it had been away."""
    if last_seen is None:
        db.execute(
            "INSERT INTO host_seen"
            " (host, first_seen, last_seen, skew_ms, seq, manifest_digest, content_digest, answer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (host, now, now, post.skew_ms, post.manifest.seq, *answered),
        )
        return
    db.execute(
        "UPDATE host_seen SET last_seen = ?, skew_ms = ?, seq = ?,"
        " manifest_digest = ?, content_digest = ?, answer = ? WHERE host = ?",
        (now, post.skew_ms, post.manifest.seq, *answered, host),
    )
    if canonical.parse_timestamp(now) - canonical.parse_timestamp(last_seen) > _SILENCE:
        db.execute(
            "INSERT INTO host_silence (host, silent_from, silent_to) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (host, last_seen, now),
        )


def _after(now: str, before: Iterable[Interval]) -> str:
    """Now, or just after the host's newest interval began, should our own clock have been set back since."""
    newest = max((interval.valid_from for interval in before), default="")
    if now > newest:
        return now
    return canonical.timestamp_of(canonical.parse_timestamp(newest) + dt.timedelta(microseconds=1))
