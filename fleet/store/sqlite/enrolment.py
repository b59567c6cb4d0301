# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - statements are put together from constants of this package; values are always bound
"""Which token lets which host in, and which hosts are no longer wanted?"""

from __future__ import annotations

import base64
import hmac
import sqlite3
from typing import Literal

from agent.model import canonical
from fleet.enroll import Applicant
from fleet.store.records import Enrolled, EnrolmentRefused, NewToken, Token
from fleet.store.sqlite import audit, intake

_COLUMNS = "id, uses_max, uses, created_at, created_by, expires_at, group_name, revoked_at, last_used_at"
_Reason = Literal["unknown token", "expired token", "used-up token", "revoked token"]


def add_token(db: sqlite3.Connection, token: NewToken, actor: str, now_ns: int) -> Token:
    """Keep the hash of a new token."""
    at = canonical.timestamp(now_ns)
    added = db.execute(
        "INSERT INTO token (sha256, group_name, uses_max, created_at, created_by, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (token.sha256, token.group, token.uses_max, at, actor, token.expires_at),
    )
    audit.append(
        db,
        at=at,
        actor=actor,
        action="token-created",
        subject=f"token:{added.lastrowid}",
        uses=token.uses_max,
        expires_at=token.expires_at,
        group=token.group,
    )
    return _token(db.execute(f"SELECT {_COLUMNS} FROM token WHERE id = ?", (added.lastrowid,)).fetchone())


def revoke_token(db: sqlite3.Connection, token_id: int, actor: str, now_ns: int) -> bool:
    """Close a token; a second time changes nothing."""
    row = db.execute("SELECT revoked_at FROM token WHERE id = ?", (token_id,)).fetchone()
    if row is None:
        return False
    if row[0] is None:
        at = canonical.timestamp(now_ns)
        db.execute("UPDATE token SET revoked_at = ? WHERE id = ?", (at, token_id))
        audit.append(db, at=at, actor=actor, action="token-revoked", subject=f"token:{token_id}")
    return True


def tokens(db: sqlite3.Connection) -> list[Token]:
    """All tokens, oldest first."""
    return [_token(row) for row in db.execute(f"SELECT {_COLUMNS} FROM token ORDER BY id")]


def enroll(
    db: sqlite3.Connection, applicant: Applicant, origin: str, now_ns: int
) -> Enrolled | EnrolmentRefused:
    """Take the host in, or say why not; a refusal leaves a record and nothing else."""
    at = canonical.timestamp(now_ns)
    host_id = applicant.host_id
    token = db.execute(
        "SELECT id, sha256, group_name, uses_max, uses, expires_at, revoked_at FROM token WHERE sha256 = ?",
        (applicant.token_sha256,),
    ).fetchone()
    # The look-up went through an index, whose time may tell of the hash's first bytes; of the token itself
    # that tells nothing. The comparison is the one that counts.
    if token is not None and not hmac.compare_digest(token[1], applicant.token_sha256):
        token = None
    host = db.execute("SELECT id, token, revoked_at FROM host WHERE host_id = ?", (host_id,)).fetchone()
    if token is None:
        return _refuse(db, at, origin, applicant, EnrolmentRefused("unknown token"))
    token_id, _, group, uses_max, uses, expires_at, revoked_at = token
    if host is not None and host[2] is not None:
        return _refuse(db, at, origin, applicant, EnrolmentRefused("revoked host"), token_id)
    if host is not None and host[1] == token_id:
        return Enrolled(host_id, again=True)
    reason: _Reason | None = None
    if revoked_at is not None:
        reason = "revoked token"
    elif expires_at <= at:
        reason = "expired token"
    elif uses >= uses_max:
        reason = "used-up token"
    if reason is not None:
        return _refuse(db, at, origin, applicant, EnrolmentRefused(reason), token_id)
    db.execute("UPDATE token SET uses = uses + 1, last_used_at = ? WHERE id = ?", (at, token_id))
    if host is None:
        db.execute(
            "INSERT INTO host"
            " (host_id, name, kind, group_name, machine_id_sha256, public_key, token, enrolled_at)"
            " VALUES (?, ?, 'agent', ?, ?, ?, ?, ?)",
            (
                host_id,
                applicant.hostname,
                group,
                applicant.machine_id_sha256,
                base64.b64encode(applicant.public_key).decode(),
                token_id,
                at,
            ),
        )
    else:
        # The same key with another token: an operator moves the host. It keeps its history.
        db.execute(
            "UPDATE host SET token = ?, group_name = COALESCE(?, group_name) WHERE id = ?",
            (token_id, group, host[0]),
        )
    audit.append(
        db,
        at=at,
        actor=f"host:{host_id}",
        action="enrolled" if host is None else "enrolled-again",
        subject=f"token:{token_id}",
        hostname=applicant.hostname,
        origin=origin,
    )
    return Enrolled(host_id, again=False)


def revoke_host(db: sqlite3.Connection, host_id: str, actor: str, now_ns: int) -> bool:
    """Close a host's key for good; a second time changes nothing."""
    row = db.execute("SELECT id, revoked_at FROM host WHERE host_id = ?", (host_id,)).fetchone()
    if row is None:
        return False
    if row[1] is None:
        at = canonical.timestamp(now_ns)
        intake.close_all(db, row[0], at)
        db.execute("UPDATE host SET revoked_at = ? WHERE id = ?", (at, row[0]))
        audit.append(db, at=at, actor=actor, action="host-revoked", subject=f"host:{host_id}")
    return True


def _refuse(
    db: sqlite3.Connection,
    at: str,
    origin: str,
    applicant: Applicant,
    refused: EnrolmentRefused,
    token_id: int | None = None,
) -> EnrolmentRefused:
    audit.append(
        db,
        at=at,
        actor=f"host:{applicant.host_id}",
        action="enrolment-refused",
        subject="token" if token_id is None else f"token:{token_id}",
        reason=refused.reason,
        hostname=applicant.hostname,
        origin=origin,
    )
    return refused


def _token(row: tuple[int, int, int, str, str, str, str | None, str | None, str | None]) -> Token:
    return Token(
        token_id=row[0],
        uses_max=row[1],
        uses=row[2],
        created_at=row[3],
        created_by=row[4],
        expires_at=row[5],
        group=row[6],
        revoked_at=row[7],
        last_used_at=row[8],
    )
