# SPDX-License-Identifier: Apache-2.0
"""What does /proc say of one process, and of no other that has its number since?

The directory is held open while its pages are read. Once the process has ended, every look-up in it fails
(ESRCH or ENOENT), even when a new process has the number: that one has another directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from types import TracebackType
from typing import Self

from agent import errors
from agent.host import Host
from agent.readers.whole import read_fd

PAGE_BYTES_MAX = 64 * 1024
_PAGE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class Pages:
    """One process's directory. A context manager: leaving it lets the directory go.

    On a host that is a directory nothing runs, and pages are found by their paths.
    """

    __slots__ = ("_fd", "_host", "path", "pid")

    def __init__(self, host: Host, pid: int) -> None:
        """Hold the directory. Raises HostError."""
        self.pid = pid
        self.path = f"/proc/{pid}"
        self._host = host
        self._fd: int | None = None
        if host.root == "/":
            try:
                self._fd = os.open(self.path, _DIRECTORY_FLAGS)
            except OSError as error:
                raise errors.host_error(error, self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def open(self, name: str, flags: int = _PAGE_FLAGS) -> int:
        """A descriptor of a page, the caller's to close. Raises HostError."""
        try:
            if self._fd is None:
                return os.open(self._host.outside(f"{self.path}/{name}"), flags)
            return os.open(name, flags, dir_fd=self._fd)
        except OSError as error:
            raise errors.host_error(error, f"{self.path}/{name}") from error

    def read(self, name: str) -> bytes:
        """A page of at most PAGE_BYTES_MAX bytes. Raises HostError."""
        fd = self.open(name)
        try:
            page = read_fd(fd, PAGE_BYTES_MAX + 1, f"{self.path}/{name}")
        finally:
            os.close(fd)
        if len(page) > PAGE_BYTES_MAX:
            raise errors.TooLargeError(f"{self.path}/{name}", f"more than {PAGE_BYTES_MAX} bytes")
        return page

    def link(self, name: str) -> bytes:
        """Where a link leads, as the kernel writes it. Raises HostError."""
        if self._fd is None:
            return os.fsencode(self._host.read_link(f"{self.path}/{name}"))
        try:
            return os.fsencode(os.readlink(name, dir_fd=self._fd))
        except OSError as error:
            raise errors.host_error(error, f"{self.path}/{name}") from error

    def descriptors(self) -> Generator[tuple[int, bytes | None]]:
        """Numbers of its descriptors and where their links lead, in the order of the kernel's table.

        Those that are closed meanwhile are left out; None stands for a target too long to say. Close the
        generator if it is not used up.

        Raises:
            HostError: they cannot be listed.
        """
        folder = self.open("fd", _DIRECTORY_FLAGS)
        try:
            # Listed as they are asked for: a process may have a million.
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        yield int(entry.name), os.fsencode(os.readlink(entry.name, dir_fd=folder))
                    except OSError as error:
                        if error.errno == errno.ENAMETOOLONG:
                            yield int(entry.name), None
        except OSError as error:
            raise errors.host_error(error, f"{self.path}/fd") from error
        finally:
            os.close(folder)
