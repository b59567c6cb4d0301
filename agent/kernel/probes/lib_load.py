# SPDX-License-Identifier: Apache-2.0
"""Files that processes map as code: libraries linked at start, opened by dlopen, or preloaded.

The kernel half is bpf/lib_load.bpf.c. It knows files, not libraries: which of them holds cryptography is told
by its content, by `agent.printing.loaded`, which teaches the kernel half what need not come again.
"""

from __future__ import annotations

import os
import re

from msgspec import Struct

from agent.kernel.event import (
    CALLS_MAP,
    EVENT_LIB_LOAD,
    FILE_IDENTITY,
    LIB_LOAD,
    NOTE_FILE_CUT,
    NOTE_FILE_DELETED,
    MalformedEventError,
    split_components,
)
from agent.kernel.probes import Event, Spec, executable, origin
from agent.model import canonical

SPEC = Spec(
    event=EVENT_LIB_LOAD,
    calls=CALLS_MAP,
    needs=("CAP_BPF", "CAP_PERFMON"),
    kernel="5.8",
    cost="about 0.1 us for every system call on the host, 0.4 for every mmap, 1 for every one of a library",
)

# `libssl` of `libssl.so.3`, and of `libssl-3a1b2c4d.so.3` as wheels name what they bundle.
_NAME = re.compile(r"(?P<stem>.+?)(?:-[0-9a-f]{8,})?(?:\.so(?:\..*)?|\.[^.]*)?", re.DOTALL)


class FileIdentity(Struct, frozen=True, order=True):
    """One file with one content, as long as the host runs: a key for what is known of it.

    Attributes:
        inode: its number.
        changed_ns: when its content, names or permissions last changed (ctime), since 1970.
        device: of its file system, as the kernel packs it.
        generation: tells a file from a deleted one whose number it was given.
    """

    inode: int
    changed_ns: int
    device: int
    generation: int

    @property
    def major_minor(self) -> tuple[int, int]:
        """The device as /proc/PID/mountinfo has it (include/linux/kdev_t.h)."""
        return self.device >> 20, self.device & 0xFFFFF

    def pack(self) -> bytes:
        """The bytes of struct file_identity."""
        return FILE_IDENTITY.pack(self.inode, self.changed_ns, self.device, self.generation)


class LibLoad(Event, kw_only=True, frozen=True, tag="lib_load"):
    """A process has a file mapped as code for the first time since it became what it executes.

    Attributes:
        library: the file's real path, from the root of the process's mount namespace on, without
            ` (deleted)`; its bare name where the path could not be read whole.
        library_name: that of the file up to `.so` or its last dot: a hint; its content may tell better.
        deleted: it had no name any more, or never was in a file system (memfd).
        identity: which file it is. For this agent; not for readers of the stream.
        address: of the mapping. The same.
        length: of the mapping, as it was asked for. The same.
    """

    library: str
    library_name: str
    deleted: bool = False
    identity: FileIdentity
    address: int
    length: int


def stem(path: str) -> str:
    """`libssl` for `/usr/lib/libssl.so.3`; the whole name where it has no ending."""
    name = os.path.basename(path)
    match = _NAME.fullmatch(name)
    return match["stem"] if match else name


def decode(record: bytes, wall_offset_ns: int) -> LibLoad:
    """One record into one event; the contract is in the folder's docstring."""
    if len(record) < LIB_LOAD.size:
        raise MalformedEventError(f"a record of {len(record)} bytes; lib_load has at least {LIB_LOAD.size}")
    kind, notes, fields = origin(record, wall_offset_ns)
    (inode, changed_ns, device, generation, address, length, file_bytes, exe_bytes) = LIB_LOAD.unpack_from(
        record
    )[12:]
    file_end = LIB_LOAD.size + file_bytes
    if kind != EVENT_LIB_LOAD or not file_bytes or file_end + exe_bytes != len(record):
        raise MalformedEventError(
            f"kind {kind}, {file_bytes} and {exe_bytes} bytes in a record of {len(record)}"
        )
    parts = split_components(record[LIB_LOAD.size : file_end])
    library = canonical.escape_bytes(b"/".join(parts) if notes & NOTE_FILE_CUT else b"/".join([b"", *parts]))
    return LibLoad(
        **fields,
        exe=executable(record[file_end:], notes),
        library=library,
        library_name=stem(library),
        deleted=bool(notes & NOTE_FILE_DELETED),
        identity=FileIdentity(inode, changed_ns, device, generation),
        address=address,
        length=length,
    )
