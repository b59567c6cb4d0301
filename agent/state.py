# SPDX-License-Identifier: Apache-2.0
"""How does the agent keep what it must not lose? Small files in one directory that is its alone.

    host.key            the host's private key (agent.identity)
    enrolment.json      what enrolment gave us (agent.enrolment)
    counter             the number of the last post, and what was lost (agent.spool)
    spool               the latest state, until the collector has it (agent.spool)
    memory              what was seen in use lately (agent.memory)
    last_post.json      what became of the last post (agent.last_post)
    quarantine/         files that turned out damaged or refused, a few of them, for people to look at

The directory is opened once and everything is done relative to its descriptor. It must be ours and writable
for us alone, and so must every directory above it, or somebody could put a file or link of his own in the
agent's way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from agent import errors
from agent.words import why

PATH_DEFAULT = "/var/lib/cryptofleet/agent"
# Damaged files tell why they are; four of them tell as much as a hundred, and the directory stays bounded.
QUARANTINE_MAX = 4
_QUARANTINE = "quarantine"
# Every use of the lock is a few small writes. Who holds it longer is stopped or hangs on a dead disk.
_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.05
# Linux follows at most this many links in one look-up (path_resolution(7)); so do we.
_LINKS_MAX = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateDirectory:
    """One agent's directory, open. Not for use from several threads; several processes exclude each other."""

    def __init__(self, path: str = PATH_DEFAULT) -> None:
        """Open the directory, made when it is missing (0700; parents 0755).

        Raises:
            StateError: it cannot be made or opened, or others could write to it or to a directory above it.
        """
        self.path = _trusted(os.path.abspath(path))
        self._locks = 0
        self._is_new = False
        try:
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
                self._is_new = True
            self._fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            raise _failed("use the state directory", self.path, error) from error
        try:
            _check_directory(os.fstat(self._fd), self.path)
        except errors.StateError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None and self._is_new:
            # What failed before it kept anything leaves nothing behind.
            with suppress(OSError):
                os.rmdir(self.path)

    def close(self) -> None:
        """Give the directory back; using it afterwards is a bug."""
        os.close(self._fd)

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """The whole file, or None when there is none.

        Raises:
            StateError: it cannot be read, is a link or no file, is another user's or open to others, or has
                more than `bytes_max` bytes.
        """
        path = self._path(name)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("read", path, error) from error
        try:
            _check_file(os.fstat(fd), path)
            data = _read_all(fd, bytes_max + 1)
        except OSError as error:
            raise _failed("read", path, error) from error
        finally:
            os.close(fd)
        if len(data) > bytes_max:
            raise errors.StateError(f"{path} has more than {bytes_max} bytes; we did not write it: remove it")
        return data

    def written_ns(self, name: str) -> int | None:
        """When the file was written, in nanoseconds since 1970; None without one. Raises StateError."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("look at", self._path(name), error) from error

    def write(self, name: str, data: bytes) -> None:
        """Put the bytes there, 0600. After a crash at any moment the file is wholly the old or the new one.

        Raises:
            StateError: the disk is full, read-only or failing. The old file is as it was, unless the very
            last
                step failed, which makes the new one safe against a power cut.
        """
        path = self._path(name)
        # Always the same name, so that what a crash leaves behind is overwritten and never adds up.
        beside = f".{name}.new"
        with self.locked():
            try:
                self._unlink(beside)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(beside, flags, 0o600, dir_fd=self._fd)
                try:
                    _write_all(fd, data)
                    # Without this the new name may come to the disk before the new bytes (rename(2) orders
                    # nothing).
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.rename(beside, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                os.fsync(self._fd)
            except OSError as error:
                with suppress(OSError):
                    self._unlink(beside)
                raise _failed("write", path, error) from error

    def remove(self, name: str) -> None:
        """Take the file away, for good also after a crash. It need not be there.

        Raises:
            StateError: the disk is read-only or failing.
        """
        try:
            self._unlink(name)
            os.fsync(self._fd)
        except OSError as error:
            raise _failed("remove", self._path(name), error) from error

    def set_aside(self, name: str) -> str:
        """Move a useless file to quarantine/; the first few are kept, then the last one is replaced.

        Returns:
            Where it is now, for people.

        Raises:
            StateError: it cannot be moved.
        """
        path = self._path(name)
        with self.locked():
            try:
                with suppress(FileExistsError):
                    os.mkdir(_QUARANTINE, 0o700, dir_fd=self._fd)
                fd = os.open(_QUARANTINE, _DIRECTORY, dir_fd=self._fd)
            except OSError as error:
                raise _failed("use", self._path(_QUARANTINE), error) from error
            try:
                _check_directory(os.fstat(fd), self._path(_QUARANTINE))
                there = set(os.listdir(fd))
                names = [f"{name}.{number}" for number in range(QUARANTINE_MAX)]
                chosen = next((free for free in names if free not in there), names[-1])
                os.rename(name, chosen, src_dir_fd=self._fd, dst_dir_fd=fd)
                os.fsync(fd)
                os.fsync(self._fd)
            except OSError as error:
                raise _failed("set aside", path, error) from error
            finally:
                os.close(fd)
        return f"{self.path}/{_QUARANTINE}/{chosen}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other processes while reading and writing what belongs together. May be nested.

        Raises:
            StateError: somebody holds it for longer than any honest use.
        """
        if self._locks == 0:
            self._lock()
        self._locks += 1
        try:
            yield
        finally:
            self._locks -= 1
            if self._locks == 0:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> None:
        end = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise _failed("lock", self.path, error) from error
                if time.monotonic() >= end:
                    raise errors.StateError(
                        f"another process has held the lock on {self.path} for {_LOCK_WAIT_S:g} s;"
                        f" see `fuser -v {self.path}`"
                    ) from error
                time.sleep(_LOCK_POLL_S)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def _path(self, name: str) -> str:
        assert "/" not in name
        return f"{self.path}/{name}"


def _read_all(fd: int, bytes_max: int) -> bytes:
    chunks = []
    while bytes_max > 0 and (chunk := os.read(fd, min(bytes_max, 1 << 20))):
        chunks.append(chunk)
        bytes_max -= len(chunk)
    return b"".join(chunks)


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _trusted(path: str) -> str:
    """The path with links above its last component resolved, each step checked, missing parents made.

    The last component is left as it is: the directory itself must not be a link.
    """
    done = ""
    todo = path.split("/")[:0:-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = done.rpartition("/")[0]
            continue
        here = f"{done}/{name}"
        if not todo:
            return here
        try:
            if not os.path.lexists(here):
                os.mkdir(here, 0o755)
            found = os.lstat(here)
            if not stat.S_ISLNK(found.st_mode):
                _check_above(found, here)
                done = here
                continue
            target = os.readlink(here)
        except OSError as error:
            raise _failed("use the state directory under", here, error) from error
        links += 1
        if found.st_uid not in (0, os.geteuid()) or links > _LINKS_MAX:
            raise errors.StateError(
                f"{here} is a link of uid {found.st_uid} on the way to the state directory;"
                f" name the real place with --state-dir"
            )
        if target.startswith("/"):
            done = ""
        todo.extend(target.split("/")[::-1])
    raise errors.StateError(f"{path} cannot be the state directory; name a directory of its own")


def _check_above(found: os.stat_result, path: str) -> None:
    # In a sticky directory (/tmp) others may write but cannot move what is ours.
    open_to_others = found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()) or open_to_others:
        raise errors.StateError(
            f"{path} (mode {stat.S_IMODE(found.st_mode):04o}, uid {found.st_uid}) is above the state"
            f" directory and open to others; close it to them, or name another place with --state-dir"
        )


def _check_directory(found: os.stat_result, path: str) -> None:
    if found.st_uid != os.geteuid():
        raise errors.StateError(
            f"{path} belongs to uid {found.st_uid} and this is uid {os.geteuid()}; run the agent as its owner"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise errors.StateError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so others can write to it;"
            f" look what they put there, then chmod 0700 {path}"
        )


def _check_file(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise errors.StateError(f"{path} is not a file; look who put it there, then remove it")
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
        raise errors.StateError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and uid {found.st_uid}, not 0600 and ours"
            f" ({os.geteuid()}). Others may have read or written it: remove it, or chown and chmod it if you"
            f" know that they have not"
        )


def _failed(doing: str, path: str, error: OSError) -> errors.StateError:
    """What an OSError means for people, and what they can do."""
    advice = {
        errno.ENOSPC: "; free some space there",
        errno.EDQUOT: "; the quota is used up",
        errno.EROFS: "; mount it writable, or name another place with --state-dir",
        errno.EACCES: "; run as root, or name another place with --state-dir",
        errno.ELOOP: "; it is a link: look who put it there, then remove it",
        errno.ENOTDIR: "; it is a link or a file: look who put it there, then remove it",
    }.get(error.errno or 0, "")
    return errors.StateError(f"cannot {doing} {path}: {why(error)}{advice}")
