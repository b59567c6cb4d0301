# SPDX-License-Identifier: Apache-2.0
"""What goes into a store and what comes out of it? Plain values; no store's own types.

Times are text in the form of `agent.model.canonical.timestamp`, which sorts as it reads, and are the
server's.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from agent.model.inventory import HostKind, Manifest, SectionState


class NewToken(Struct, frozen=True, kw_only=True):
    """An enrolment token to keep: its hash, never itself."""

    sha256: str
    uses_max: int
    expires_at: str
    group: str | None = None


class Token(Struct, frozen=True, kw_only=True):
    """An enrolment token as kept."""

    token_id: int
    uses_max: int
    uses: int
    created_at: str
    created_by: str
    expires_at: str
    group: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None


class Host(Struct, frozen=True, kw_only=True):
    """One enrolled host, apart from what was found on it."""

    host_id: str
    kind: HostKind
    name: str
    public_key: bytes
    enrolled_at: str
    group: str | None = None
    labels: dict[str, str] = {}
    machine_id_sha256: str | None = None
    os: str | None = None
    kernel: str | None = None
    arch: str | None = None
    agent_version: str | None = None
    revoked_at: str | None = None
    last_seen: str | None = None
    skew_ms: int | None = None
    seq: int | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """One host as it was at one moment: `last_seen` is of that moment, too."""

    host: Host
    last_seen: str | None
    sections: dict[str, SectionState]


class Enrolled(Struct, frozen=True):
    """The host is one of ours; `again` when it was already, by this very token."""

    host_id: str
    again: bool


class EnrolmentRefused(Struct, frozen=True):
    """The token does not enrol this host. `reason` is for operators and the audit log, not for strangers."""

    reason: Literal["unknown token", "expired token", "used-up token", "revoked token", "revoked host"]


class Post(Struct, frozen=True, kw_only=True):
    """A state that has passed every check that needs no database.

    Attributes:
        manifest: the decoded document.
        manifest_bytes: its bytes as signed.
        signature: the signature document, canonical.
        live: the live document as sent.
        parts: bodies that came in the same document, by digest, checked; the host counts as having uploaded
            them.
        received_ns: server time.
        skew_ms: the host's clock minus ours, in milliseconds; None when the request did not tell.
    """

    host_id: str
    manifest: Manifest
    manifest_bytes: bytes
    signature: bytes
    live: bytes
    received_ns: int
    skew_ms: int | None = None
    parts: dict[str, bytes] = {}


class Accepted(Struct, frozen=True):
    """The state is durable and differs from the one before."""

    seq: int


class Unchanged(Struct, frozen=True):
    """The state is durable; its sections are those of the one before."""

    seq: int


class Missing(Struct, frozen=True):
    """Nothing was taken: the host must upload these parts first."""

    digests: tuple[str, ...]


class Ahead(Struct, frozen=True):
    """Nothing was taken: the store already holds `seq` of this host, with another manifest."""

    seq: int


class HostGone(Struct, frozen=True):
    """Nothing was taken: the host is unknown or revoked."""


PostOutcome = Accepted | Unchanged | Missing | Ahead | HostGone
ChangeKind = Literal["appeared", "content", "detector", "status", "vanished"]


class Change(Struct, frozen=True, kw_only=True):
    """One section of one host that is not what it was.

    Attributes:
        cursor: grows with every change of the store; ask for what follows the last one seen.
        kind: appeared: sent for the first time, or again; content: other parts; detector: read by another
            version of the scanner; status: the same parts, seen otherwise; vanished: no longer sent.
        old, new: the section before and after; None where there was or is none.
    """

    cursor: int
    at: str
    host_id: str
    section: str
    kind: ChangeKind
    old: SectionState | None
    new: SectionState | None


class AuditRecord(Struct, frozen=True, kw_only=True):
    """Who did what to what, in a chain: each record's hash covers the one before."""

    audit_id: int
    at: str
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    hash: str


class Garbage(Struct, frozen=True, kw_only=True):
    """What one round of collection took away."""

    leases: int = 0
    parts: int = 0
    bytes: int = 0
