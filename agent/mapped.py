# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is a mapped file? Each is looked at once, however many processes map it.

What is read is what is mapped: through /proc/PID/map_files where we may, which finds deleted and container
files alike, else below /proc/PID/root, and then only if it is still the same file. A file on a network file
system is never touched: its device tells, before it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from agent import errors
from agent.elf import MalformedElfError, read_at_of, read_elf
from agent.host import Host, is_regular
from agent.model.inventory import SkipReason
from agent.procfs.maps import Extent, Mapping
from agent.procfs.mountinfo import Nature, parse_mountinfo
from agent.procmap import Reader
from agent.recognise import Recognised, recognise
from agent.walk import Walker

# Ordinary servers have 300 to 3,000 distinct executable files mapped. Looking at one costs some 50 us.
_FILES_MAX = 20_000
# For all versions together: 250 libraries of 4 MiB, about a second.
_SEARCH_BYTES_TOTAL = 1024 * 1024 * 1024

# What the kernel writes after the name of a file that is no longer there by that name.
DELETED = " (deleted)"

Skip = Callable[[SkipReason, str], None]
# How the kernel names files that stand in memory alone, on a mount that no table lists. They never had a
# place to be deleted from, though the kernel writes ` (deleted)` after each.
_MEMORY = (b"/memfd:", b"/dev/zero", b"/SYSV", b"/anon_hugepage")


@dataclass(frozen=True, eq=False)
class Mapped:
    """A cryptographic library as a process has it mapped. Compared by identity: one per name and content."""

    library: Recognised
    path: str
    """As the process sees it, without ` (deleted)`."""
    deleted: bool
    is_of_host: bool
    """Whether the host's own file of that path is this one: then its packages can be asked about it."""
    links: int
    """How many names its file has."""


class MappedFiles:
    """What is known of mapped files in one scan."""

    def __init__(self, host: Host, skip: Skip) -> None:
        self._host = host
        self._skip = skip
        self.known: dict[Extent, Mapped | None] = {}
        """Files that need not be looked at again; None for what is no library or cannot be looked at."""
        # A file with one link has one name (of two bind mounts the first stands for both). The same file by
        # two names (conda and uv link their packages) is two uses: there the name is asked for each time.
        self._named: dict[tuple[Extent, bytes], Mapped] = {}
        self._natures: dict[tuple[int, int], Nature | None] = {}
        self._search_bytes = _SEARCH_BYTES_TOTAL
        self._steps = Walker(host, _ignore, 0)

    @property
    def count(self) -> int:
        """How many distinct files were met, one by two names counting twice."""
        return len(self.known) + len(self._named)

    def identify(self, reader: Reader, fd: int, pid: int, mapping: Mapping) -> Mapped | None:
        """The library behind a mapping, or None where it is none or cannot be looked at.

        Args:
            reader: which gave the mapping.
            fd: the process's open maps page.
            pid: its number.
            mapping: one whose extent is not in `known`.

        Raises:
            VanishedError: the process or the mapping has gone; another process may still show the file.
        """
        if mapping.extent in self.known:
            # Since the process was asked: it has this file mapped twice.
            return self.known[mapping.extent]
        names = reader.names(fd, mapping, f"/proc/{pid}/maps")
        mapped = self._named.get((mapping.extent, names[0]))
        if mapped is not None:
            return mapped
        try:
            if self.count < _FILES_MAX:
                mapped = self._look(pid, mapping, names)
            else:
                self._skip("budget", os.fsdecode(names[0]))
        except errors.VanishedError:
            raise
        except errors.HostError as error:
            self._skip(error.skip, os.fsdecode(names[0]))
        if mapped is not None and mapped.links > 1:
            self._named[mapping.extent, names[0]] = mapped
        else:
            self.known[mapping.extent] = mapped
        return mapped

    def _look(self, pid: int, mapping: Mapping, names: tuple[bytes, ...]) -> Mapped | None:
        if not self._may_touch(pid, mapping, names[0]):
            return None
        with ExitStack() as stack:
            fd = self._open(stack, pid, mapping, names)
            if fd is None:
                return None
            path = os.fsdecode(names[0])
            try:
                elf = read_elf(read_at_of(fd, path))
                library = recognise(elf, self._search_bytes) if elf else None
            except MalformedElfError:
                self._skip("malformed", path)
                return None
            if library is None:
                return None
            if not self._search_bytes:
                self._skip("budget", path)
            self._search_bytes -= library.searched_bytes
            status = os.fstat(fd)
        path, deleted = self._true_path(pid, names, status)
        is_of_host = not deleted and self._is_of_host(path, status)
        return Mapped(library, path, deleted, is_of_host, status.st_nlink)

    def _may_touch(self, pid: int, mapping: Mapping, name: bytes) -> bool:
        """What the mount tables, ours or the process's own, say of the device."""
        if self._host.root != "/":
            # The pages of a host that is a directory were written on another machine; its files stand here.
            return True
        device = mapping.extent[1:3]
        nature = self._nature(pid, device)
        if nature is None and not name.startswith(_MEMORY):
            # In no table: its mount was taken away while in use. Devices with a major number are disks.
            nature = "local" if device[0] else "foreign"
        if nature == "foreign":
            self._skip("network_fs", os.fsdecode(name))
        return nature in ("local", None)

    def _nature(self, pid: int, device: tuple[int, int]) -> Nature | None:
        """Of the file system of a device; None where neither our table nor the process's lists it."""
        if not self._natures:
            self._learn("/proc/self/mountinfo")
        if device not in self._natures:
            self._learn(f"/proc/{pid}/mountinfo")
        return self._natures.setdefault(device, None)

    def _learn(self, page: str) -> None:
        for mount in parse_mountinfo(self._host.read(page)):
            self._natures[mount.device] = mount.nature

    def _open(self, stack: ExitStack, pid: int, mapping: Mapping, names: tuple[bytes, ...]) -> int | None:
        """A descriptor of the mapped file; None where it is no regular one: opening it might do things."""
        through = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        below = [f"/proc/{pid}/root{os.fsdecode(one)}" for one in names]
        failures: dict[str, errors.HostError] = {}
        for path in (through, *below):
            try:
                if not is_regular(self._host.stat(path).st_mode):
                    return None
                fd = stack.enter_context(self._host.open(path))
                if path == through or os.fstat(fd).st_ino == mapping.extent[0]:
                    return fd
                failures["unreadable"] = errors.UnreadableError(path, "another file has taken its name")
            except errors.HostError as error:
                failures.setdefault(error.skip, error)
        if "denied" not in failures and self._host.exists(f"/proc/{pid}/maps"):
            if self._host.exists(f"/proc/{pid}/map_files"):
                raise errors.VanishedError(through, "it was unmapped while we looked")
            raise errors.UnreadableError(os.fsdecode(names[0]), "deleted, and this kernel has no map_files")
        raise failures.get("denied") or failures.get("unreadable") or failures["vanished"]

    def _true_path(self, pid: int, names: tuple[bytes, ...], status: os.stat_result) -> tuple[str, bool]:
        """The path, and whether the file is deleted: ` (deleted)` may also be how its name ends."""
        likely = os.fsdecode(names[0])
        bare = likely.removesuffix(DELETED)
        if names[0].startswith(_MEMORY):
            return bare, False
        if (bare != likely or len(names) > 1) and status.st_nlink:
            for path in map(os.fsdecode, names):
                if self._is_same(f"/proc/{pid}/root{path}", status):
                    return path, False
        return bare, bare != likely

    def _is_of_host(self, path: str, status: os.stat_result) -> bool:
        real = self._steps.resolve(path)
        return real is not None and self._is_same(real, status)

    def _is_same(self, path: str, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(self._host.stat(path), status)
        except errors.HostError:
            return False


def _ignore(reason: SkipReason, path: str) -> None:
    """What hinders the comparison with the host's own file hides no library."""
