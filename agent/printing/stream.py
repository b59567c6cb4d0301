# SPDX-License-Identifier: Apache-2.0
"""How do events reach who asked for them, one by one? To standard output, or a file that may be rotated.

A file is appended to, each event by one write(2), so that a reader never sees half of one and others may
append to it too. logrotate(8) moves it away and sends SIGHUP: then the name is opened anew, and where that
cannot be done the old file is written on.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import Any, Protocol

from agent import errors, formats
from agent.printing import output
from agent.words import why

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK


class Target(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> None:
        """All of them, at once. Raises OutputError, BrokenPipeError."""
        ...

    def is_reader_gone(self) -> bool:
        """Whether nobody will ever read what is written."""
        ...

    def close(self) -> None:
        """Nothing more will be written."""
        ...


class StandardOutput:
    """The pipe, terminal or file that we were started with."""

    def __init__(self) -> None:
        self._poll = select.poll()
        # Asked for nothing, it still tells of errors: that the reading end of a pipe was closed.
        self._poll.register(sys.stdout.fileno(), 0)

    def write(self, data: bytes) -> None:
        """See `Target`."""
        output.put(data)

    def is_reader_gone(self) -> bool:
        """See `Target`. Else `| head -1` would wait for an event that nobody wants."""
        return any(events & select.POLLERR for _, events in self._poll.poll(0))

    def close(self) -> None:
        """It is not ours to close."""


class File:
    """A file by its name, at the moment it was opened."""

    def __init__(self, path: str) -> None:
        """Open it, or make it with mode 0600.

        Args:
            path: a regular file of ours by its only name, or a device or FIFO of ours or root's. Anything
                else may have been put there by another user, to be written to by us or read by them.

        Raises:
            UsageError: it is another thing.
            OutputError: it cannot be opened.
        """
        self.path = path
        try:
            self._fd = _open(path)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise errors.UsageError(f"{path} is a link; name the file itself") from error
            if error.errno == errno.ENXIO:
                raise errors.OutputError(f"cannot write {path}: nobody reads it") from error
            raise errors.OutputError(f"cannot write {path}: {why(error)}") from error
        try:
            status = os.fstat(self._fd)
            self._check(status)
            self._is_regular = stat.S_ISREG(status.st_mode)
            self.is_used = self._is_regular and status.st_size > 0
            """Whether something is in it already."""
            os.set_blocking(self._fd, True)
        except BaseException:
            os.close(self._fd)
            raise

    def _check(self, status: os.stat_result) -> None:
        mode = status.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise errors.UsageError(f"{self.path} is no file that can be appended to; name another")
        if stat.S_ISREG(mode) and status.st_nlink > 1:
            raise errors.UsageError(f"{self.path} has other names (hard links); name another file")
        owners = {os.geteuid()} if stat.S_ISREG(mode) else {os.geteuid(), 0}
        if status.st_uid not in owners:
            raise errors.UsageError(f"{self.path} belongs to another user; name another file")

    def empty(self) -> None:
        """Take out what is in it. A device and a FIFO hold nothing."""
        if self._is_regular:
            os.ftruncate(self._fd, 0)

    def write(self, data: bytes) -> None:
        """See `Target`."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(len(data) - len(rest))
            raise errors.OutputError(f"cannot write {self.path}: {why(error)}") from error

    def _take_back(self, written: int) -> None:
        """Half an event would spoil the next one that somebody appends. Not where somebody did meanwhile."""
        if written and self._is_regular:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if os.fstat(self._fd).st_size == end:
                os.ftruncate(self._fd, end - written)

    def is_reader_gone(self) -> bool:
        """A file has readers at all times; a FIFO tells when it is written to."""
        return False

    def is_in_place(self) -> bool:
        """Whether its name still means it; a device's and a FIFO's is not asked for."""
        if not self._is_regular:
            return True
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def close(self) -> None:
        """See `Target`."""
        os.close(self._fd)


def _open(path: str) -> int:
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        # Its mode is its owner's choice, and logrotate's: somebody may have let a group read it.
        return os.open(path, _FLAGS)
    # A umask takes bits away from its owner too.
    os.fchmod(fd, 0o600)
    return fd


class Output:
    """Events in one format, to one target after the other."""

    def __init__(self, begin: Callable[[], formats.Stream], path: str | None, *, is_empty: bool) -> None:
        """Open the target; nothing is written yet.

        Args:
            begin: makes the format's stream.
            path: the file; None or another name of standard output for that.
            is_empty: whether the file shall be emptied before the first event.

        Raises:
            UsageError: the file holds something that this format cannot be appended to, or is none of ours.
            OutputError: it cannot be opened.
        """
        self._begin = begin
        self._form = begin()
        self._is_empty = is_empty
        self._is_asked = False
        self._target: Target
        self._file: File | None = None
        if path is None or path in output.STANDARD:
            self._target = StandardOutput()
        else:
            self._target = self._file = self._opened(path)

    def _opened(self, path: str) -> File:
        file = File(path)
        if file.is_used and self._form.is_whole and not self._is_empty:
            file.close()
            raise errors.UsageError(
                f"{path} is not empty, and nothing can be appended to this format; use --overwrite, or"
                " --format json-stream"
            )
        return file

    @property
    def is_file(self) -> bool:
        """Whether it is a file that can be opened anew."""
        return self._file is not None

    def begin(self) -> None:
        """Write what comes before the first event.

        The file is emptied only now: who could not watch at all has lost nothing.
        """
        if self._file is not None and self._is_empty:
            self._file.empty()
        self._is_empty = False
        self._put(self._form.begin())

    def show(self, document: dict[str, Any]) -> None:
        """Write one event. Raises OutputError, BrokenPipeError."""
        self._put(self._form.item(document))

    def end(self) -> None:
        """Write what comes after the last event, and close."""
        self._put(self._form.end())
        self._target.close()

    def _put(self, data: bytes) -> None:
        if data:
            self._target.write(data)

    def is_reader_gone(self) -> bool:
        """Whether nobody will read any more."""
        return self._target.is_reader_gone()

    def ask_to_reopen(self) -> None:
        """Have the file opened anew by the next `reopen_if_asked`. For signal handlers."""
        self._is_asked = True

    def reopen_if_asked(self) -> str | None:
        """Go on in a new file where somebody has moved ours away and asked for it.

        Returns:
            What went wrong, for people, when the old file is written on.
        """
        if not self._is_asked or self._file is None:
            return None
        self._is_asked = False
        if self._file.is_in_place():
            return None
        try:
            file = self._opened(self._file.path)
        except errors.AgentError as error:
            return f"{error}; the old file is written on"
        self.end()
        self._target = self._file = file
        self._form = self._begin()
        self.begin()
        return None
