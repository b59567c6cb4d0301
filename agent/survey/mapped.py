# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is a mapped file? Each is looked at once, however many processes map it.

What is read is what is mapped: through /proc/PID/map_files where we may, which finds deleted and container
files alike, else below /proc/PID/root, and then only if it is still the same file. A file on a network file
system is never touched: its device tells, before it is opened. Files are opened here and read elsewhere
(`Host.parse`), many at a time: so what a file is may be known a little later than that it is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from agent import errors
from agent.disk.walk import Walker
from agent.guard.parsing import Opened
from agent.host import Host
from agent.model.inventory import SkipReason
from agent.procfs.maps import Mapping
from agent.readers.recognise import SEARCH_BYTES_MAX, Examined, Recognised, examine
from agent.survey.denied import DeniedFiles
from agent.survey.natures import Natures, of_unlisted

# Ordinary servers have 300 to 3,000 distinct executable files mapped. Looking at one costs some 50 us.
_FILES_MAX = 20_000
# For versions, and for libraries inside of programs, together: about half a second.
_SEARCH_BYTES_TOTAL = 1024 * 1024 * 1024
# Files that are open at the same time, waiting to be read together, and how large they are in all: the budget
# may be overdrawn by one lot.
_BATCH_MAX = 64
_BATCH_BYTES_MAX = 256 * 1024 * 1024

# What the kernel writes after the name of a file that is no longer there by that name.
DELETED = " (deleted)"

Skip = Callable[[SkipReason, str], None]
# How the kernel names files that stand in memory alone, on a mount that no table lists. They never had a
# place to be deleted from, though the kernel writes ` (deleted)` after each.
MEMORY = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage")


@dataclass(frozen=True, eq=False)
class Mapped:
    """A cryptographic library as a process has it mapped. Compared by identity: one per name and content."""

    library: Recognised
    path: str
    """As the process sees it, without ` (deleted)`."""
    deleted: bool
    is_of_host: bool
    """Whether the host's own file of that path is this one: then its packages can be asked about it."""


class Slot:
    """A mapped file; what library it is stands here after the next `MappedFiles.flush`."""

    __slots__ = ("mapped",)

    def __init__(self) -> None:
        self.mapped: Mapped | None = None


@dataclass(frozen=True)
class _Waiting:
    """A file that is open and not yet read."""

    key: Hashable
    slot: Slot
    fd: int
    path: str
    deleted: bool
    status: os.stat_result
    name: bytes


class MappedFiles:
    """What is known of mapped files in one scan. Close it: files may wait in it."""

    def __init__(self, host: Host, skip: Skip, natures: Natures) -> None:
        self._host = host
        self._skip = skip
        self._natures = natures
        self.known: dict[Any, Slot | None] = {}
        """Files that need not be looked at again, by what the caller tells them by; None for what is no
        library or cannot be looked at."""
        # A file with one link has one name (of two bind mounts the first stands for both). The same file by
        # two names (conda and uv link their packages) is two uses: there the name is asked for each time.
        self._named: dict[tuple[Hashable, bytes], Slot] = {}
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._denied: DeniedFiles[Slot] = DeniedFiles(host, skip)
        self._search_bytes = _SEARCH_BYTES_TOTAL
        self._steps = Walker(host, _ignore, 0)

    @property
    def count(self) -> int:
        """How many distinct files were met, one by two names counting twice."""
        return len(self.known) + len(self._named) + len(self._denied)

    def slot(self, key: Hashable) -> Slot | None:
        """The place of what is known, or may still be known, of a file."""
        return self.known.get(key) or self._denied.get(key)

    def denied(self, key: Hashable, pid: int) -> Slot | None:
        """The place of a file that was denied, and that this process would not show either."""
        return self._denied.through(key, pid)

    def meet(
        self, key: Hashable, pid: int, mapping: Mapping, names: tuple[bytes, ...], *, tells_name: bool = False
    ) -> Slot | None:
        """The place of what will be known of a file, or None where it is no library or cannot be looked at.

        Args:
            key: which file it is.
            pid: a process that has it mapped.
            mapping: where.
            names: what it may be called, the likelier first.
            tells_name: whether the key also tells one name of the file from another.

        Raises:
            VanishedError: the process or the mapping has gone; another process may still show the file.
        """
        if key in self.known:
            # Since the process was asked: it has this file mapped twice.
            return self.known[key]
        if slot := self._named.get((key, names[0])):
            if slot.mapped is None and self._waiting:
                # Most files are no library. Nobody must ask for this one's name a third time if it is none.
                self.flush()
            return slot
        if slot := self.denied(key, pid):
            return slot
        waiting = None
        try:
            if self.count < _FILES_MAX:
                waiting = self._open(key, pid, mapping, names, tells_name=tells_name)
            else:
                self._skip("budget", os.fsdecode(names[0]))
        except errors.VanishedError:
            raise
        except errors.DeniedError:
            slot, is_last = self._denied.add(key, os.fsdecode(names[0]), Slot())
            if is_last:
                self.known[key] = None
            return slot
        except errors.HostError as error:
            self._skip(error.skip, os.fsdecode(names[0]))
        if waiting is None:
            self._denied.take(key)
            self.known[key] = None
            return None
        return self._wait(waiting, tells_name=tells_name)

    @property
    def is_waiting(self) -> bool:
        """Whether files are open and not yet read."""
        return bool(self._waiting)

    def settle(self) -> None:
        """Have the files that wait read, and count those that no process has shown."""
        self.flush()
        self._denied.settle()

    def flush(self) -> None:
        """Have the files that wait read."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            files = [Opened(one.fd, one.path) for one in waiting]
            search_bytes_max = min(self._search_bytes, SEARCH_BYTES_MAX)
            answers = self._host.parse(examine, files, search_bytes_max) if files else []
            for one, answer in zip(waiting, answers, strict=True):
                self._settle(one, answer)
        finally:
            for one in waiting:
                os.close(one.fd)

    def close(self) -> None:
        """Close the files that wait."""
        while self._waiting:
            os.close(self._waiting.pop().fd)

    def _wait(self, waiting: _Waiting, *, tells_name: bool) -> Slot:
        """Let a file wait, until there are many."""
        if waiting.status.st_nlink > 1 and not tells_name:
            self._named[waiting.key, waiting.name] = waiting.slot
        else:
            self.known[waiting.key] = waiting.slot
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.status.st_size
        is_large = self._waiting_bytes >= min(_BATCH_BYTES_MAX, self._search_bytes)
        if is_large or len(self._waiting) >= _BATCH_MAX:
            self.flush()
        return waiting.slot

    def _settle(self, one: _Waiting, answer: Examined | errors.HostError) -> None:
        library = None
        if isinstance(answer, errors.HostError):
            self._skip(answer.skip, one.path)
        else:
            library = answer.library
            self._search_bytes = max(0, self._search_bytes - answer.searched_bytes)
            if answer.is_cut:
                self._skip("budget", one.path)
        if library is None:
            self.known[one.key] = None
            self._named.pop((one.key, one.name), None)
            return
        is_of_host = not one.deleted and self._is_of_host(one.path, one.status)
        one.slot.mapped = Mapped(library, one.path, one.deleted, is_of_host)

    def _open(
        self, key: Hashable, pid: int, mapping: Mapping, names: tuple[bytes, ...], *, tells_name: bool
    ) -> _Waiting | None:
        if not self._may_touch(pid, mapping, os.fsdecode(names[0])):
            return None
        fd = self._descriptor(pid, mapping, names)
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            path, deleted = true_path(self._host, pid, names, status)
        except BaseException:
            os.close(fd)
            raise
        name = None if status.st_nlink == 1 or tells_name else os.fsdecode(names[0])
        slot = self._denied.take(key, name) or Slot()
        return _Waiting(key, slot, fd, path, deleted, status, names[0])

    def _may_touch(self, pid: int, mapping: Mapping, name: str) -> bool:
        """What the mount tables, ours or the process's own, say of the device."""
        if self._host.root != "/":
            # The pages of a host that is a directory were written on another machine; its files stand here.
            return True
        device = mapping.extent[1:3]
        nature = self._natures.of_device(pid, device)
        if nature is None and not name.startswith(MEMORY):
            nature = of_unlisted(device)
        if nature == "foreign":
            self._skip("network_fs", name)
        return nature in ("local", None)

    def _descriptor(self, pid: int, mapping: Mapping, names: tuple[bytes, ...]) -> int | None:
        """The mapped file, open; None where it is no regular one: opening it might do things."""
        through = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        below = [f"/proc/{pid}/root{os.fsdecode(one)}" for one in names]
        failures: dict[str, errors.HostError] = {}
        for path in (through, *below):
            try:
                fd = self._host.open_regular(path)
            except errors.HostError as error:
                failures.setdefault(error.skip, error)
                continue
            if fd is None or path == through or os.fstat(fd).st_ino == mapping.extent[0]:
                return fd
            os.close(fd)
            failures["unreadable"] = errors.UnreadableError(path, "another file has taken its name")
        if "denied" not in failures and self._host.exists(f"/proc/{pid}/maps"):
            if self._host.exists(f"/proc/{pid}/map_files"):
                raise errors.VanishedError(through, "it was unmapped while we looked")
            raise errors.UnreadableError(os.fsdecode(names[0]), "deleted, and this kernel has no map_files")
        raise failures.get("denied") or failures.get("unreadable") or failures["vanished"]

    def _is_of_host(self, path: str, status: os.stat_result) -> bool:
        real = self._steps.resolve(path)
        return real is not None and _is_same(self._host, real, status)


def true_path(host: Host, pid: int, names: tuple[bytes, ...], status: os.stat_result) -> tuple[str, bool]:
    """The path of a file, and whether it is deleted: ` (deleted)` may also be how its name ends.

    Args:
        pid: a process that has it.
        names: what the kernel calls it, the likelier first.
        status: the file's own.
    """
    likely = os.fsdecode(names[0])
    bare = likely.removesuffix(DELETED)
    if likely.startswith(MEMORY):
        return bare, False
    if (bare != likely or len(names) > 1) and status.st_nlink:
        for path in map(os.fsdecode, names):
            if _is_same(host, f"/proc/{pid}/root{path}", status):
                return path, False
    return bare, bare != likely


def _is_same(host: Host, path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(host.stat(path), status)
    except errors.HostError:
        return False


def _ignore(reason: SkipReason, path: str) -> None:
    """What hinders the comparison with the host's own file hides no library."""
