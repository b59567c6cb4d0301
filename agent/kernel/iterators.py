# SPDX-License-Identifier: Apache-2.0
"""What does every process have mapped and open? Asked of the kernel itself, with two BPF iterators.

The kernel walks its own tables and gives numbers instead of text: a process costs some 20 us, where /proc
costs 100. Loading the two programs costs some 20 ms once, so they pay off on a host with many processes.
Nothing is attached to any event. The other half is bpf/iterators.bpf.c.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from agent import errors
from agent.host import Host
from agent.kernel import preflight
from agent.kernel.libbpf import BpfError, Library
from agent.kernel.object import BpfObject, read_image

NAME = "iterators"
# The kernel fills 8 pages at a time (kernel/bpf/bpf_iter.c) and never parts a record.
_READ_BYTES = 256 * 1024

# struct settings, process, mapping and descriptor of bpf/iterators.bpf.c. Mappings are taken as they stand,
# and so is a descriptor's file with its path.
SETTINGS = struct.Struct("=Q2I")
PROCESS = struct.Struct("=QIi3Q2I16sq")
MAPPING = struct.Struct("=2I4Q")
DESCRIPTOR = struct.Struct("=IiQ2Iq")
FILE = struct.Struct("=Q2I")
_MISSING: Any = object()

_T = TypeVar("_T")


Identity = tuple[int, int]
"""A process's number, and when it began, in nanoseconds since boot: one process for ever."""


class Head(NamedTuple):
    """One process."""

    identity: Identity
    cgroups: int
    """Equal numbers, equal cgroups; they mean nothing else."""
    root: int
    """Equal numbers, equal root directories; they mean nothing else."""
    uid: int
    """Real."""
    name: bytes
    exe: bytes | None
    """As the kernel writes it, ` (deleted)` included; None where it has none, or one too long to say."""

    @property
    def pid(self) -> int:
        """Its number."""
        return self.identity[0]


class Held(NamedTuple):
    """One open file that is not known yet."""

    number: int
    """Of the descriptor."""
    key: bytes
    """Equal bytes, equal files by equal names; empty where the name is too long to say, or there are more
    descriptors than are looked at (`is_rest`)."""
    is_rest: bool = False

    @property
    def mount(self) -> int:
        """Number of the mount that it lies on."""
        return int(FILE.unpack_from(self.key)[2])

    @property
    def name(self) -> bytes:
        """What the kernel calls it, ` (deleted)` included."""
        return self.key[FILE.size :]


class Iterators:
    """The two programs, loaded. A context manager: leaving it frees them."""

    def __init__(self, host: Host, descriptors_max: int) -> None:
        """Load them.

        Args:
            host: the running host itself.
            descriptors_max: how many descriptors of one process are looked at.

        Raises:
            PrivilegeError, KernelError, AttachError: why this is not possible here.
        """
        preflight.require_privilege(host)
        preflight.require_kernel(host)
        if preflight.own_pid_namespace(host) != (0, 0):
            raise errors.KernelError("this is not the initial pid namespace, whose numbers the kernel gives")
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._offset_ns = preflight.own_clock_offset_ns(host, "boottime")
        # Whoever serves files through FUSE chooses their numbers: no process must be invented by them.
        sign = int.from_bytes(os.urandom(8), sys.byteorder)
        self._sign = sign.to_bytes(8, sys.byteorder)
        self._object = BpfObject(Library.shared(), NAME, read_image(NAME))
        try:
            self._object.set_settings(SETTINGS.pack(sign, mmap.PAGESIZE.bit_length() - 1, descriptors_max))
            self._object.load()
            for program in self._object.programs:
                self._object.attach(program)
        except BpfError as error:
            self._object.close()
            raise errors.KernelError(preflight.load_reason(error)) from error
        except BaseException:
            self._object.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._object.close()

    def mappings(self) -> Iterator[tuple[Head, bytes]]:
        """What each process executes from, by process number; kernel threads have nothing.

        Yields:
            The process, and struct mapping for each of its executable mappings that a file is behind. Equal
            bytes are equal stretches of equal files by equal names; processes of one program have the same.

        Raises:
            KernelError: the kernel gave up.
        """
        rest = b""
        for page in self._read("mappings"):
            # In what is left of the last page there is one sign, at its beginning.
            searched = len(rest)
            data = rest + page if rest else page
            at = 0
            while (end := data.find(self._sign, max(at + PROCESS.size, searched))) >= 0:
                head, begin = _head(data, at)
                yield head, data[begin:end]
                at = end
            rest = data[at:]
        if rest:
            head, begin = _head(rest, 0)
            yield head, rest[begin:]

    def descriptors(self, known: Mapping[bytes, _T | None]) -> Iterator[tuple[Identity, _T | Held]]:
        """Regular files that processes have open, by process and descriptor.

        Args:
            known: what is known of files by their keys; what is None is left out.

        Yields:
            The process, and what is known of its file, or the file.

        Raises:
            KernelError: the kernel gave up.
        """
        unpack = DESCRIPTOR.unpack_from
        # Of the path its NUL is left out.
        first, last = DESCRIPTOR.size, DESCRIPTOR.size + FILE.size - 1
        for page in self._read("descriptors"):
            at = 0
            size = len(page)
            while at < size:
                record_bytes, pid, start_ns, number, _, path_bytes = unpack(page, at)
                key = page[at + first : at + last + path_bytes] if path_bytes > 0 else b""
                at += record_bytes
                value = known.get(key, _MISSING)
                if value is _MISSING:
                    yield (pid, start_ns), Held(number, key, path_bytes == 0)
                elif value is not None:
                    yield (pid, start_ns), value

    def start_ticks(self, identity: Identity) -> int:
        """When a process began, as /proc/PID/stat says it to us."""
        return (identity[1] + self._offset_ns) * self._ticks_per_s // 1_000_000_000

    def _read(self, program: str) -> Iterator[bytes]:
        try:
            fd = self._object.open_iterator(program)
        except BpfError as error:
            raise errors.KernelError(error.reason) from error
        try:
            while True:
                try:
                    page = os.read(fd, _READ_BYTES)
                except BlockingIOError:
                    # A million objects without a word from our program: the kernel wants to be asked again.
                    continue
                except OSError as error:
                    raise errors.KernelError(f"the iterator of {program} ended: {error.strerror}") from error
                if not page:
                    return
                yield page
        finally:
            os.close(fd)


def _head(page: bytes, at: int) -> tuple[Head, int]:
    """The process at a place of the page, and where its mappings begin."""
    _, record_bytes, pid, start_ns, cgroups, root, uid, _, name, exe_bytes = PROCESS.unpack_from(page, at)
    begin = at + PROCESS.size
    exe = page[begin : begin + exe_bytes - 1] if exe_bytes > 0 else None
    head = Head((pid, start_ns), cgroups, root, uid, name.partition(b"\0")[0], exe)
    return head, at + record_bytes
