# SPDX-License-Identifier: Apache-2.0
"""Which files stand below a directory? A bounded walk that asks the mount table before it touches anything.

Directories are opened relative to their parent's descriptor and without following links, so that nobody who
may rename a directory while we walk leads us elsewhere. The walk ends after a number of names, not after a
time: the same host gives the same answer on a busy day.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter

from agent import errors
from agent.host import LINKS_MAX, PATH_BYTES_MAX, Host
from agent.model.inventory import SkipReason
from agent.procfs.mountinfo import MountTable, parse_mountinfo

# A directory deeper than this is made by an accident or by somebody's ill will; each level holds one
# descriptor open.
DEPTH_MAX = 64
ANY_DEPTH = sys.maxsize
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_DIRECTORY

Skip = Callable[[SkipReason, str], None]


@dataclass(frozen=True, slots=True)
class File:
    """A regular file, open-able as long as the walk stands at it."""

    path: str
    stat: os.stat_result
    host: Host
    directory: int | None = None
    """Descriptor of its directory; None for a file that was named and not walked to."""

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor for reading of this very file, and of none that has taken its name since.

        Raises:
            HostError: the leaf that the kernel's answer means; VanishedError when the name now means
                something else.
        """
        if self.directory is None:
            with self.host.open(self.path, follow=False) as fd:
                self._check(fd)
                yield fd
            return
        name = self.path.rpartition("/")[2]
        fd = _open_at(name, _FILE_FLAGS, self.directory, self.path)
        try:
            self._check(fd)
            yield fd
        finally:
            os.close(fd)

    def _check(self, fd: int) -> None:
        if not os.path.samestat(os.fstat(fd), self.stat):
            raise errors.VanishedError(self.path, "it was replaced while we looked")


@dataclass(frozen=True, slots=True)
class Link:
    """Another name of a file: a symbolic link, or a hard link to a file that was walked to before."""

    path: str
    real: str
    """Where it leads, with every link on the way resolved. What stands there may be anything, or nothing."""


class Ground:
    """Where we may step: what the mount table says of a path, without touching it."""

    def __init__(self, host: Host) -> None:
        """Read the table.

        Raises:
            HostError: it cannot be read, so that nothing may be touched. (A host that is a directory may have
                none.)
        """
        self._tables: list[tuple[str, MountTable]] = []
        if host.root == "/":
            self._tables.append(("", _mount_table(host)))
            return
        # A directory may be a copy of a host, whose own table stands in it, and may itself have something
        # mounted in it.
        self._tables.append((host.root, _mount_table(Host())))
        try:
            self._tables.append(("", _mount_table(host)))
        except errors.VanishedError:
            return

    def forbidden(self, path: str) -> tuple[str, bool] | None:
        """None where a path may be touched; else the mount that forbids it, and whether it may hold files.

        Args:
            path: absolute, as the host sees it, without links in its directories.
        """
        for prefix, table in self._tables:
            mount = table.of(prefix + path)
            if mount is not None and mount.nature != "local":
                return mount.point.removeprefix(prefix) or "/", mount.nature == "foreign"
        return None

    def begins(self, path: str) -> bool:
        """Whether something is mounted at exactly this path."""
        return any(table.at(prefix + path) is not None for prefix, table in self._tables)


def _mount_table(host: Host) -> MountTable:
    return MountTable(parse_mountinfo(host.read("/proc/self/mountinfo")))


class Walker:
    """One walk over several roots, with one budget, that comes to each directory once."""

    def __init__(self, host: Host, skip: Skip, names_max: int) -> None:
        """Make ready.

        Args:
            skip: told of every thing that is not looked at, with the reason and its path.
            names_max: how many names may be looked at, in all roots together.

        Raises:
            HostError: the mount table cannot be read.
        """
        self._host = host
        self._skip = skip
        self._left = names_max
        self._is_cut = False
        self._ground = Ground(host)
        self._foreign: set[str] = set()
        self._directories: set[tuple[int, int]] = set()
        self._linked: dict[tuple[int, int], str] = {}
        self._plain: set[str] = set()

    def walk(
        self, root: str, *, depth_max: int = ANY_DEPTH, leave: Callable[[str], bool] | None = None
    ) -> Generator[File | Link]:
        """Files and links below a directory, in the order of their names; nothing where it is not there.

        Links to directories are never entered, other roots' directories not twice, devices, sockets and FIFOs
        not touched. Close the generator if it is not used up.

        Args:
            root: absolute; the links on the way to it are resolved.
            depth_max: 1 gives what stands in the directory itself. What is deeper is left uncounted; what is
                deeper than DEPTH_MAX below `/` is counted.
            leave: called with every directory's path; True leaves it alone, uncounted.
        """
        real = self.resolve(root)
        if real is None or (leave is not None and leave(real)):
            return
        self._is_cut = False
        if self._is_spent(real):
            return
        try:
            fd = _open_at(self._host.outside(real), _DIRECTORY_FLAGS, None, real)
        except errors.HostError as error:
            if error.skip != "vanished" and not self._is_file(real):
                self._skip(error.skip, real)
            return
        try:
            yield from self._walk(fd, real, depth_max, leave)
        finally:
            os.close(fd)

    def file(self, path: str) -> File | None:
        """The regular file where a link leads, or None. `path` has no links left (see `resolve`)."""
        try:
            status = self._host.stat(path, follow=False)
        except errors.VanishedError:
            return None
        except errors.HostError as error:
            self._skip(error.skip, path)
            return None
        return File(path, status, self._host) if stat.S_ISREG(status.st_mode) else None

    def resolve(self, path: str) -> str | None:
        """The path with every link resolved inside the root, asking the mount table at every step.

        None when it leads where we may not step (counted, if files may stand there), in circles, or is longer
        than the kernel takes: passwd(5) and the like may hold a page of slashes. A missing tail stays.
        """
        if len(path) >= PATH_BYTES_MAX:
            return None
        done: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            here = "/".join(["", *done, name])
            if here in self._plain:
                done.append(name)
                continue
            if not self._may_touch(here):
                return None
            try:
                target = self._host.read_link(here)
            except errors.HostError as error:
                # EINVAL: it is no link. Whatever else it is shows when it is opened.
                if error.skip == "unreadable" and todo:
                    self._plain.add(here)
                done.append(name)
                continue
            links += 1
            if links > LINKS_MAX:
                return None
            if target.startswith("/"):
                done.clear()
            todo.extend(target.split("/")[::-1])
        return "/" + "/".join(done)

    def _is_file(self, path: str) -> bool:
        try:
            return not stat.S_ISDIR(self._host.stat(path, follow=False).st_mode)
        except errors.HostError:
            return False

    def _may_touch(self, path: str) -> bool:
        forbidden = self._ground.forbidden(path)
        if forbidden is None:
            return True
        point, foreign = forbidden
        if foreign and point not in self._foreign:
            self._foreign.add(point)
            self._skip("network_fs", point)
        return False

    def _walk(
        self, fd: int, path: str, depth_left: int, leave: Callable[[str], bool] | None
    ) -> Generator[File | Link]:
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        if identity in self._directories:
            return
        self._directories.add(identity)
        for entry in self._entries(fd, path):
            here = f"{path.rstrip('/')}/{entry.name}"
            # A name may be a mount point, which even stat(2) would touch. Below it, this question has been
            # asked already.
            if self._ground.begins(here) and not self._may_touch(here):
                continue
            try:
                if entry.is_symlink():
                    real = self.resolve(here)
                    if real is not None:
                        yield Link(here, real)
                elif entry.is_dir(follow_symlinks=False):
                    if depth_left > 1 and not (leave is not None and leave(here)):
                        yield from self._enter(fd, here, depth_left - 1, leave)
                elif entry.is_file(follow_symlinks=False):
                    yield self._file(fd, here, entry)
            except OSError as error:
                self._skip(errors.host_error(error, here).skip, here)

    def _entries(self, fd: int, path: str) -> list[os.DirEntry[str]]:
        """What stands in a directory, sorted by name, and no more than the budget allows."""
        try:
            with os.scandir(fd) as listing:
                found = list(itertools.islice(listing, self._left + 1))
        except OSError as error:
            self._skip(errors.host_error(error, path).skip, path)
            return []
        if len(found) > self._left:
            # Which of its names a directory gives first is its file system's affair, and stays as it is until
            # the directory changes. To sort before cutting would be to hold them all.
            del found[self._left :]
            self._left = 0
            self._is_spent(path)
        else:
            self._left -= len(found)
        return sorted(found, key=attrgetter("name"))

    def _enter(
        self, fd: int, path: str, depth_left: int, leave: Callable[[str], bool] | None
    ) -> Generator[File | Link]:
        if self._is_spent(path):
            return
        if path.count("/") > DEPTH_MAX:
            self._skip("budget", path)
            return
        try:
            child = _open_at(path.rpartition("/")[2], _DIRECTORY_FLAGS, fd, path)
        except errors.HostError as error:
            self._skip(error.skip, path)
            return
        try:
            yield from self._walk(child, path, depth_left, leave)
        finally:
            os.close(child)

    def _is_spent(self, path: str) -> bool:
        """Whether the budget is; counted once for each root, with the first directory that was left."""
        if self._left > 0:
            return False
        if not self._is_cut:
            self._is_cut = True
            self._skip("budget", path)
        return True

    def _file(self, fd: int, path: str, entry: os.DirEntry[str]) -> File | Link:
        status = entry.stat(follow_symlinks=False)
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return Link(path, first)
        return File(path, status, self._host, fd)


def _open_at(name: str, flags: int, directory: int | None, path: str) -> int:
    try:
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
        except PermissionError:
            # O_NOATIME is for the owner and root alone (open(2)).
            return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise errors.host_error(error, path) from error
