# SPDX-License-Identifier: Apache-2.0
"""What does a store promise? The contract that every database behind the collector keeps.

Writes return a future. It is done when the work is durable, or failed when nothing of it was kept: `result()`
waits for it in a command, `asyncio.wrap_future` in a server. Many writes share one transaction, so a caller
with several starts them all before it waits. Reads see what was durable when they began. The suite in
tests/fleet/store holds for every store.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from fleet.enroll import Applicant
from fleet.store.records import (
    AuditRecord,
    Change,
    Enrolled,
    EnrolmentRefused,
    Garbage,
    Host,
    NewToken,
    Post,
    PostOutcome,
    Snapshot,
    Token,
)


class Store(Protocol):
    """Every host's history, and who may add to it."""

    # -- tokens and hosts -----------------------------------------------------------------------------------

    def add_token(self, token: NewToken, *, actor: str, now_ns: int) -> Future[Token]:
        """Keep a new enrolment token."""

    def revoke_token(self, token_id: int, *, actor: str, now_ns: int) -> Future[bool]:
        """Let nobody enrol with it from now on. False: there is no such token."""

    def tokens(self) -> list[Token]:
        """All tokens, oldest first."""

    def enroll(
        self, applicant: Applicant, *, origin: str, now_ns: int
    ) -> Future[Enrolled | EnrolmentRefused]:
        """Take the host in if its token allows; a repeat is no second use of the token.

        Args:
            applicant: the host, its proof already verified.
            origin: where the request came from, for the audit log, which records refusals too.
            now_ns: server time.
        """

    def host(self, host_id: str) -> Host | None:
        """One host by its identity, revoked ones included."""

    def revoke_host(self, host_id: str, *, actor: str, now_ns: int) -> Future[bool]:
        """Take nothing from this key from now on; what it said stays. False: there is no such host."""

    # -- intake ---------------------------------------------------------------------------------------------

    def put_part(
        self, host_id: str, digest: str, body: bytes, *, leased_until_ns: int, now_ns: int
    ) -> Future[bool]:
        """Keep a part that this host uploaded, until a state needs it or time is up. False: the host is gone.

        Args:
            host_id: who uploaded it.
            digest: of `body`, already checked.
            body: the part's bytes, already checked to be one.
            leased_until_ns: when it may be thrown away if nothing refers to it.
            now_ns: server time.
        """

    def put_state(self, post: Post) -> Future[PostOutcome]:
        """Make this the host's state, whole or not at all.

        The same seq with the same manifest gets the answer it got before and changes nothing. A host may
        refer to a part only if it has uploaded it, or has referred to it before; all others are missing for
        it.
        """

    # -- reading --------------------------------------------------------------------------------------------

    def snapshots(self, *, at: str | None = None, host_id: str | None = None) -> list[Snapshot]:
        """Every host, or one, as it is or as it was at that moment; all of one moment, sorted by host_id.

        Hosts that were not yet enrolled, or already revoked, at that moment are not among them.
        """

    def part(self, digest: str) -> bytes | None:
        """The bytes of a part as they were received."""

    def manifest(self, host_id: str) -> tuple[bytes, bytes] | None:
        """The bytes of the host's newest changed manifest as signed, and its signature document."""

    def changes(self, *, after: int = 0, limit: int = 1000, host_id: str | None = None) -> list[Change]:
        """Changes with a cursor beyond `after`, oldest first."""

    def audit(self, *, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """The audit log, oldest first."""

    # -- upkeep ---------------------------------------------------------------------------------------------

    def check_audit(self) -> int | None:
        """The first audit record whose hash does not follow from content and predecessor; None: all do."""

    def check_writable(self, *, now_ns: int) -> Future[None]:
        """Write something harmless and make it durable; fails with StoreUnavailableError."""

    def collect_garbage(self, *, now_ns: int, batch: int = 200) -> Future[Garbage]:
        """Throw away some of what is past its lease and referred to by nothing.

        Call again as long as it takes `batch` leases: small rounds let posts through in between.
        """

    def close(self) -> None:
        """Finish what was started, then let go of the database."""


def open_store(path: Path, *, create: bool = False) -> Store:
    """The store in that file, brought to the newest form of its tables.

    Args:
        path: an SQLite database.
        create: make it when it is not there.

    Raises:
        errors.ConfigError: it is not there, or is something else.
        errors.StoreUnavailableError: it cannot be opened now.
    """
    from fleet.store.sqlite import SqliteStore

    return SqliteStore(path, create=create)
