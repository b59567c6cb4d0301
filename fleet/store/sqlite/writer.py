# SPDX-License-Identifier: Apache-2.0
"""How do many writes share one durable commit? One thread, and transactions that take in what is waiting.

A commit waits for the disk. While it does, more work arrives, and the next commit covers all of it: one fsync
for many posts, and each is answered only after it. Every job runs in a savepoint of its own, so what goes
wrong in one undoes that one alone.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

from fleet import errors

T = TypeVar("T")

# A transaction takes in work for at most this long, so that the first of it does not wait for the last. A
# commit took 4 ms (median; 0.7 to 12) where it was measured.
_GATHER_S = 0.05
_JOBS_MAX = 512


class _Job(Generic[T]):
    """One piece of work and the future of its answer."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.future: Future[T] = Future()
        self.answer: T | None = None
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        with _Attempt(self, connection):
            self.answer = self.work(connection)

    def settle(self, failure: errors.StoreError | None) -> None:
        """Tell the answer, once what it says is durable, or the failure, once nothing is left of it."""
        error = failure or self.error
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]  # set where there is no error


class _Attempt:
    """A savepoint around one job: an error in it, also a bug of ours, undoes it and becomes its answer."""

    def __init__(self, job: _Job[T], connection: sqlite3.Connection) -> None:
        self._job = job
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("SAVEPOINT job")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._connection.execute("RELEASE job")
            return False
        # A full disk ends the whole transaction by itself, the savepoint with it.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
        self._job.error = translate(error) if isinstance(error, sqlite3.Error) else error
        return isinstance(error, Exception)


class Writer:
    """The only writing connection of this process, and its thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run the work in a transaction; the future is done after its commit.

        Raises:
            errors.StoreUnavailableError: the store was closed.
        """
        job = _Job(work)
        with self._lock:
            if self._closed:
                raise errors.StoreUnavailableError("the store is closed")
            self._waiting.put(job)  # type: ignore[arg-type]  # a job of any answer
        return job.future

    def close(self) -> None:
        """Finish what was submitted, then close the connection. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            if not self._transact(job):
                return

    def _transact(self, first: _Job[object]) -> bool:
        """One transaction of what is waiting. False: the end of the queue was among it."""
        jobs: list[_Job[object]] = []
        more = True
        try:
            # IMMEDIATE: a command of the operator may be writing too, and is waited for here, before any work
            # is done.
            self._connection.execute("BEGIN IMMEDIATE")
            until = time.monotonic() + _GATHER_S
            job: _Job[object] | None = first
            while job is not None:
                if job.future.set_running_or_notify_cancel():
                    jobs.append(job)
                    job.run(self._connection)
                    if not self._connection.in_transaction:
                        raise sqlite3.OperationalError(f"the transaction ended: {job.error}")
                if len(jobs) >= _JOBS_MAX or time.monotonic() > until:
                    break
                try:
                    job = self._waiting.get_nowait()
                except queue.Empty:
                    break
            more = job is not None
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # Where even this fails, the next transaction cannot begin, and this is tried again.
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            failure = translate(error)
            if not jobs and first.future.set_running_or_notify_cancel():
                jobs.append(first)
            for job in jobs:
                job.settle(failure)
            return more
        for job in jobs:
            job.settle(None)
        return more


def translate(error: sqlite3.Error) -> errors.StoreError:
    """Ours for one of SQLite's: unavailable is what time or an operator can mend, the rest is damage."""
    if isinstance(error, sqlite3.OperationalError):
        ours: errors.StoreError = errors.StoreUnavailableError(f"the database cannot be written: {error}")
    else:
        ours = errors.StoreError(f"the database refused: {error}")
    ours.__cause__ = error
    return ours
