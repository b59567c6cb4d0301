# SPDX-License-Identifier: Apache-2.0
"""Is another run of the agent scanning this host? One lock for all of them, which no other user can take.

It is a POSIX record lock, because such a lock is its process's alone: no child inherits it, so that a parser
of hostile files can neither keep nor lose it, and however the process ends, it is free (fcntl(2)). Its file
stands where only the agent's own user can open it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from agent import errors
from agent.words import plain, why

# The agent's own, in memory, so that nothing of it outlives the machine's run.
ROOT_DIRECTORY = "/run/cryptofleet/agent"
# Another directory that is the user's alone, where that one cannot be: whoever shares a host shares it.
DIRECTORY_ENV = "CRYPTOFLEET_RUN"
_NAME = "lock"
_USER_NAME = "cryptofleet-agent.lock"
_POLL_S = 0.2
_COMMAND_BYTES_MAX = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# struct flock (fcntl(2)) on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = "hhqqi4x"


class Holder(NamedTuple):
    """Who has the lock. `pid` is 0 or less where it is in another pid namespace."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command}, pid {self.pid}" if self.pid > 0 else f"{self.command}, in a container"


def holder() -> Holder | None:
    """Who is scanning this host now, as far as this user may see; None when nobody is.

    Not for the process that has the lock: closing its file anywhere gives it back (fcntl(2)).
    """
    try:
        fd = _open(os.O_RDONLY)
    except OSError:
        return None
    try:
        return _holder(fd)
    finally:
        os.close(fd)


@contextmanager
def held(wait_s: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Have the lock within this block. Not to be nested.

    A host whose /run cannot be written to is still looked at; what is lost is that two scans may run at once.

    Args:
        wait_s: for another run to end.
        tell: is given words for people: whom we wait for, or why there is no lock.

    Raises:
        BusyError: another run is still at work.
    """
    fd = _take(wait_s, tell)
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def _take(wait_s: float, tell: Callable[[str], None]) -> int | None:
    end = time.monotonic() + wait_s
    other: Holder | None = None
    try:
        while (fd := _attempt()) is None:
            seen = holder()
            if time.monotonic() >= end:
                who = f" ({seen})" if seen else ""
                raise errors.BusyError(
                    f"another run{who} is at work on this host; try again when it has ended"
                )
            if seen and seen != other:
                tell(f"waiting for another run ({seen}) to end")
                other = seen
            time.sleep(min(_POLL_S, max(end - time.monotonic(), 0)))
    except OSError as error:
        # An ordinary user without a session has no place for a lock, and can burden nobody but himself.
        if os.geteuid() == 0:
            reason = why(error)
            tell(f"there is no lock, so two runs may look at this host at once: {error.filename}: {reason}")
        return None
    return fd


def _attempt() -> int | None:
    """The locked file, or None where another process has it."""
    fd = _open(os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who takes away files that lie around must not make two locks out of one: it counts while its name
        # leads to it.
        if os.fstat(fd).st_nlink == 0:
            os.close(fd)
            return None
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, _own_command(), 0)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return fd


def _open(flags: int) -> int:
    """The lock's file. Raises OSError, with the place as its filename, where there can be none."""
    place, name = _place()
    if not place.startswith("/"):
        raise FileNotFoundError(errno.ENOENT, "not set", "XDG_RUNTIME_DIR")
    if name == _NAME and flags & os.O_CREAT:
        for directory, mode in ((os.path.dirname(place), 0o755), (place, 0o700)):
            with suppress(FileExistsError):
                os.mkdir(directory, mode)
    directory_fd = os.open(place, _DIRECTORY)
    try:
        found = os.fstat(directory_fd)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(errno.EPERM, "others may enter it; make it 0700 and ours", place)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)


def _place() -> tuple[str, str]:
    """The directory, and the file's name in it."""
    if asked := os.environ.get(DIRECTORY_ENV):
        return asked, _NAME
    if os.geteuid() == 0:
        return ROOT_DIRECTORY, _NAME
    # It is its user's alone (pam_systemd(8)), and has other programs' files in it.
    return os.environ.get("XDG_RUNTIME_DIR", ""), _USER_NAME


def _holder(fd: int) -> Holder | None:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        command = os.pread(fd, _COMMAND_BYTES_MAX, 0).decode(errors="replace").strip()
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else Holder(pid, plain(command) or "fleet-agent")


def _own_command() -> bytes:
    """What this run is called, for others who wait: the subcommand, and no argument, which may be private."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    return f"fleet-agent {word if word.isalpha() else ''}".rstrip().encode()[:_COMMAND_BYTES_MAX]
