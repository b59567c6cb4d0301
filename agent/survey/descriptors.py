# SPDX-License-Identifier: Apache-2.0
"""Which files of cryptography does a process hold open? Told by their content; each file is read once.

A file counts when its bytes are a certificate, a private key or a keystore, or when it is called like one. It
is read through the process's own descriptor, which finds what was deleted and what stands in another mount
namespace. Before it is touched, its mount must be one of this machine's own file systems.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from agent import errors
from agent.guard.parsing import Opened
from agent.host import Host, is_regular, text
from agent.procfs.mountinfo import Nature
from agent.readers.file_kind import UNKNOWN, FileKind, is_listed, read_kind
from agent.survey.denied import DeniedFiles
from agent.survey.mapped import DELETED, MEMORY, Skip, true_path
from agent.survey.natures import Natures, of_unlisted
from agent.survey.process import HeldFile

# Descriptors of one process. A busy proxy or database has some 10,000; who has more may have a million of
# them (fs.nr_open), at 2 us each.
DESCRIPTORS_MAX = 16_384
# Distinct files in one scan. One costs some 20 us to open and read.
_FILES_MAX = 20_000
# Files that are open at the same time, waiting to be read together.
_BATCH_MAX = 64
_DELETED = os.fsencode(DELETED)


class Use:
    """A file by one name; what it is stands here after the next `OpenFiles.flush`."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: HeldFile | None = None
        """Set where it counts."""


@dataclass(frozen=True)
class _Waiting:
    """A file that is open and not yet read."""

    key: Hashable
    use: Use
    fd: int
    path: str
    deleted: bool


class OpenFiles:
    """What is known of open files in one scan. Close it: files may wait in it."""

    def __init__(self, host: Host, skip: Skip, natures: Natures) -> None:
        self._host = host
        self._skip = skip
        self._natures = natures
        self.known: dict[Any, Use | None] = {}
        """Files that need not be looked at again, by what the caller tells them by, their name included; None
        for what does not count."""
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._denied: DeniedFiles[Use] = DeniedFiles(host, skip)

    def meet(
        self,
        key: Hashable,
        pid: int,
        number: int,
        name: bytes,
        mount: int | None,
        *,
        tells_file: bool = False,
    ) -> Use | None:
        """The place of what will be known of a file, or None where it does not count.

        Args:
            key: which file by which name it is.
            pid: a process that has it open.
            number: of its descriptor there.
            name: what the kernel calls it; it begins with a slash.
            mount: number of the mount it lies on; None where nobody knows, as on a host that is a directory.
            tells_file: whether the key also tells one file of the name from another.

        Raises:
            VanishedError: the process or its descriptor has gone; another process may still show the file.
        """
        if use := self._denied.through(key, pid):
            return use
        path = os.fsdecode(name)
        try:
            if self._may_touch(pid, number, path, mount):
                if self._count < _FILES_MAX:
                    return self._open(key, pid, number, name, tells_file=tells_file)
                self._skip("budget", path)
        except errors.VanishedError:
            # On a host that is a directory nothing is closed meanwhile: a link leads to what is not there.
            if self._host.root == "/":
                raise
        except errors.DeniedError:
            use, is_last = self._denied.add(key, path, _use_by_name(path))
            if is_last:
                self.known[key] = use if use.held else None
            return use
        except errors.HostError as error:
            self._skip(error.skip, path)
        return self._unread(key, path)

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
        waiting, self._waiting = self._waiting, []
        try:
            files = [Opened(one.fd, one.path) for one in waiting]
            answers = self._host.parse(read_kind, files) if files else []
            for one, answer in zip(waiting, answers, strict=True):
                kind = answer
                if isinstance(kind, errors.HostError):
                    self._skip(kind.skip, one.path)
                    kind = UNKNOWN
                one.use.held = _held(one.path, kind, deleted=one.deleted)
                if one.use.held is None:
                    self.known[one.key] = None
        finally:
            for one in waiting:
                os.close(one.fd)

    def close(self) -> None:
        """Close the files that wait."""
        while self._waiting:
            os.close(self._waiting.pop().fd)

    def _may_touch(self, pid: int, number: int, path: str, mount: int | None) -> bool:
        """Whether it lies on this machine; what the kernel makes as it is read holds no keys."""
        if path.startswith(MEMORY):
            return True
        if mount is None:
            # The pages of a host that is a directory were written on another machine; its files stand here.
            return self._host.root != "/"
        nature = self._natures.of_mount(pid, mount) or self._nature_of_file(pid, number)
        if nature == "foreign":
            self._skip("network_fs", path)
        return nature == "local"

    def _nature_of_file(self, pid: int, number: int) -> Nature:
        """Of a file on a mount that no table lists.

        It was taken away while in use, or belongs to the mount namespace that the process was started from.
        Its device may be listed all the same.
        """
        known = self._host.stat_known(f"/proc/{pid}/fd/{number}")
        if known is None:
            return "foreign"
        mode, device = known
        # A device, a FIFO or a directory is no file with keys, wherever it lies.
        if not is_regular(mode):
            return "virtual"
        return self._natures.of_device(pid, device) or of_unlisted(device)

    def _open(self, key: Hashable, pid: int, number: int, name: bytes, *, tells_file: bool) -> Use | None:
        path = os.fsdecode(name)
        fd = self._host.open_regular(f"/proc/{pid}/fd/{number}")
        if fd is None:
            self._denied.take(key)
            self.known[key] = None
            return None
        try:
            self._check(fd, name, path)
            status = os.fstat(fd)
            if not tells_file and name.endswith(_DELETED):
                # Many files may have gone by one name: these are told by their numbers.
                key = (status.st_dev, status.st_ino, name)
                if key in self.known:
                    os.close(fd)
                    return self.known[key]
            real, deleted = true_path(self._host, pid, (name,), status)
        except BaseException:
            os.close(fd)
            raise
        self._count += 1
        use = self.known[key] = self._denied.take(key) or Use()
        self._waiting.append(_Waiting(key, use, fd, real, deleted))
        if len(self._waiting) >= _BATCH_MAX:
            self.flush()
        return use

    def _check(self, fd: int, name: bytes, path: str) -> None:
        """Whether what was opened is what the kernel named before: its number may be another file's now."""
        if self._host.root == "/" and os.readlink(b"/proc/self/fd/%d" % fd) != name:
            raise errors.VanishedError(path, "it was renamed, or its descriptor means another file now")

    def _unread(self, key: Hashable, path: str) -> Use | None:
        """A file of which the name alone is known."""
        use = _use_by_name(path)
        self._denied.take(key)
        found = self.known[key] = use if use.held else None
        return found


def _use_by_name(path: str) -> Use:
    use = Use()
    use.held = _held(path.removesuffix(DELETED), UNKNOWN, deleted=path.endswith(DELETED))
    return use


def _held(path: str, kind: FileKind, *, deleted: bool) -> HeldFile | None:
    """What is told of a file; None where it does not count."""
    if not is_listed(path, kind):
        return None
    return HeldFile(path=text(path), deleted=deleted, file_type=kind.file_type, file_kind=kind.kind)
