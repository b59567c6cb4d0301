# SPDX-License-Identifier: Apache-2.0
"""How does SQLite keep what the contract promises? WAL, commits on disk, one writer, readers beside it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from agent.model import canonical
from fleet import errors
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
from fleet.store.sqlite import audit, content, enrolment, intake, reads
from fleet.store.sqlite.schema import migrations
from fleet.store.sqlite.writer import Writer, translate

T = TypeVar("T")

# How long a write waits for another process, which is an operator's command and brief.
_BUSY_S = 20.0
# 64 MiB keep the indexes of some hundred thousand hosts' hot rows in memory; negative means KiB.
_CACHE_KIB = -64 * 1024


class SqliteStore:
    """The store in one file. Safe to use from any thread; several processes may have it open."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open, and bring the tables to their newest form.

        Raises:
            errors.ConfigError: no such file, or not a database of ours.
            errors.StoreUnavailableError: it cannot be opened now.
        """
        if not create and not path.is_file():
            raise errors.ConfigError(f"there is no store at {path}; `fleet serve --init` makes one")
        if not create and path.stat().st_size == 0:
            # SQLite takes it for a database without tables, and a lost fleet would look like an empty one.
            raise errors.ConfigError(f"{path} is empty, which no store ever is; restore it from a backup")
        self.path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            if create and not path.exists():
                # SQLite would make it with the umask's mode; what hosts say is for the collector alone.
                path.touch(mode=0o600)
            connection = self._connect()
            connection.execute("PRAGMA journal_mode = WAL")
            migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise translate(error) from error
            raise errors.ConfigError(f"{path} is not a store of ours: {error}") from error
        except OSError as error:
            raise errors.ConfigError(f"cannot make the store {path}: {error.strerror}") from error
        self._writer = Writer(connection)

    def close(self) -> None:
        """Finish what was started, then let go of the file."""
        self._writer.close()
        with self._lock:
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    # -- tokens and hosts -----------------------------------------------------------------------------------

    def add_token(self, token: NewToken, *, actor: str, now_ns: int) -> Future[Token]:
        """See the contract."""
        return self._writer.submit(lambda db: enrolment.add_token(db, token, actor, now_ns))

    def revoke_token(self, token_id: int, *, actor: str, now_ns: int) -> Future[bool]:
        """See the contract."""
        return self._writer.submit(lambda db: enrolment.revoke_token(db, token_id, actor, now_ns))

    def tokens(self) -> list[Token]:
        """See the contract."""
        return self._read(enrolment.tokens)

    def enroll(
        self, applicant: Applicant, *, origin: str, now_ns: int
    ) -> Future[Enrolled | EnrolmentRefused]:
        """See the contract."""
        return self._writer.submit(lambda db: enrolment.enroll(db, applicant, origin, now_ns))

    def host(self, host_id: str) -> Host | None:
        """See the contract."""
        return self._read(lambda db: reads.host(db, host_id))

    def revoke_host(self, host_id: str, *, actor: str, now_ns: int) -> Future[bool]:
        """See the contract."""
        return self._writer.submit(lambda db: enrolment.revoke_host(db, host_id, actor, now_ns))

    # -- intake ---------------------------------------------------------------------------------------------

    def put_part(
        self, host_id: str, digest: str, body: bytes, *, leased_until_ns: int, now_ns: int
    ) -> Future[bool]:
        """See the contract."""
        until, at = canonical.timestamp(leased_until_ns), canonical.timestamp(now_ns)
        return self._writer.submit(lambda db: intake.put_part(db, host_id, digest, body, until, at))

    def put_state(self, post: Post) -> Future[PostOutcome]:
        """See the contract."""
        return self._writer.submit(lambda db: intake.put_state(db, post))

    # -- reading --------------------------------------------------------------------------------------------

    def snapshots(self, *, at: str | None = None, host_id: str | None = None) -> list[Snapshot]:
        """See the contract."""
        return self._read(lambda db: reads.snapshots(db, at, host_id))

    def part(self, digest: str) -> bytes | None:
        """See the contract."""
        return self._read(lambda db: content.body(db, digest))

    def manifest(self, host_id: str) -> tuple[bytes, bytes] | None:
        """See the contract."""
        return self._read(lambda db: reads.manifest(db, host_id))

    def changes(self, *, after: int = 0, limit: int = 1000, host_id: str | None = None) -> list[Change]:
        """See the contract."""
        return self._read(lambda db: reads.changes(db, after, limit, host_id))

    def audit(self, *, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """See the contract."""
        return self._read(lambda db: audit.read(db, after, limit))

    # -- upkeep ---------------------------------------------------------------------------------------------

    def check_audit(self) -> int | None:
        """See the contract."""
        return self._read(audit.first_broken)

    def check_writable(self, *, now_ns: int) -> Future[None]:
        """See the contract."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO readiness (id, checked_at) VALUES (1, ?)"
                " ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at",
                (canonical.timestamp(now_ns),),
            )

        return self._writer.submit(write)

    def collect_garbage(self, *, now_ns: int, batch: int = 200) -> Future[Garbage]:
        """See the contract."""
        return self._writer.submit(lambda db: content.collect_garbage(db, canonical.timestamp(now_ns), batch))

    # -- connections ----------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun and ended by us. The connection of one thread is closed by another at the
        # end.
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        # FULL: in WAL mode every commit is on disk before it is answered, also when the power goes.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = {_CACHE_KIB}")
        return connection

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask in one read transaction, so that everything in the answer is of one moment."""
        try:
            with self._reading() as db:
                return question(db)
        except sqlite3.Error as error:
            raise translate(error) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            with self._lock:
                self._readers.append(connection)
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")
