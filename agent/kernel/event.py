# SPDX-License-Identifier: Apache-2.0
"""How do the kernel half's bytes look from Python? The other side of bpf/event.h; tests/bpf keeps them equal.

Formats begin with `=`: the machine's byte order and no padding, because event.h is laid out to need none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

NAME_BYTES_MAX = 4096
SUFFIX_BYTES_MAX = 16
BASENAME_BYTES_MAX = 16
DIRECTORY_BYTES_MAX = 32
SUFFIXES_MAX = 32
BASENAMES_MAX = 8
DIRECTORIES_MAX = 8
ARGV_BYTES_MAX = 4096
OWN_MAX = 4

EVENT_FILE_OPEN = 1
EVENT_LIB_LOAD = 2
EVENT_PROCESS_EXEC = 3
EVENT_PROCESS_EXIT = 4

CALLS_OPEN = 0
CALLS_MAP = 1

NOTE_NAME_TRUNCATED = 0x1
NOTE_BASE_CUT = 0x2
NOTE_EXE_CUT = 0x4
NOTE_EXE_DELETED = 0x8
NOTE_FLAGS_UNREAD = 0x10
NOTE_FILE_CUT = 0x20
NOTE_FILE_DELETED = 0x40
NOTE_ARGV_CUT = 0x80

_HEADER = "QQQQIIIIIHH16s"
EVENT_HEADER = struct.Struct("=" + _HEADER)
FILE_OPEN = struct.Struct("=" + _HEADER + "QiIII")
FILE_IDENTITY = struct.Struct("=QQII")
LIB_LOAD = struct.Struct("=" + _HEADER + "QQII" + "QQII")
PROCESS_EXEC = struct.Struct("=" + _HEADER + "IIII")
PROCESS_EXIT = struct.Struct("=" + _HEADER + "IIII")
COUNTERS = struct.Struct("=8Q")
FOLD_KEY = struct.Struct("=QII")
FOLD = struct.Struct("=QQ")
_SETTINGS_TAIL = struct.Struct("=QQQ4I8I")
SETTINGS_BYTES = (
    SUFFIXES_MAX * 2 * SUFFIX_BYTES_MAX
    + BASENAMES_MAX * 2 * BASENAME_BYTES_MAX
    + DIRECTORIES_MAX * 2 * DIRECTORY_BYTES_MAX
    + _SETTINGS_TAIL.size
)


class MalformedEventError(ValueError):
    """A record is not what event.h says. It is counted and skipped; the stream goes on."""


class Counters(NamedTuple):
    """struct counters. Every call that a program saw is in exactly one of them."""

    submitted: int
    lost: int
    faulted: int
    filtered: int
    own: int
    foreign: int
    folded: int
    repeated: int


NOTHING = Counters(*[0] * len(Counters._fields))


class Who(NamedTuple):
    """Whose doings are reported, by process numbers of the agent's pid namespace.

    Attributes:
        own: the agent's own processes, of which nothing is; at most OWN_MAX.
        is_family_seen: their descendants are.
        only: this process alone; 0 for all.
        is_following: and the descendants of that one.
        pid_namespace: the kernel's device number and the inode of the only pid namespace; (0, 0) for all.
    """

    own: tuple[int, ...]
    is_family_seen: bool = False
    only: int = 0
    is_following: bool = False
    pid_namespace: tuple[int, int] = (0, 0)


class NameFilter(NamedTuple):
    """Which names of files a probe reports: those that pass any of these.

    Attributes:
        suffixes: how the name ends, in any ASCII case.
        basenames: how its last component begins.
        directories: how the name begins, as the process wrote it.
    """

    suffixes: tuple[bytes, ...] = ()
    basenames: tuple[bytes, ...] = ()
    directories: tuple[bytes, ...] = ()


def pack_settings(names: NameFilter, who: Who, *, flags_ignored: int = 0, is_folding: bool = False) -> bytes:
    """The bytes of struct settings.

    Args:
        names: which names of files are reported.
        who: whose doings are.
        flags_ignored: opens with any of these O_* flags are not reported.
        is_folding: report equal opens once and count the rest.

    Raises:
        ValueError: a filter is too long, empty, or there are too many.
    """
    # The kernel half sets this bit in every byte at the end of a name: ASCII letters become small.
    suffixes = [bytes(byte | 0x20 for byte in suffix) for suffix in names.suffixes]
    if len(who.own) > OWN_MAX:
        raise ValueError(f"{len(who.own)} processes of our own; the kernel half knows at most {OWN_MAX}")
    return b"".join(
        [
            _pack_filters("suffixes", suffixes, SUFFIXES_MAX, SUFFIX_BYTES_MAX, is_at_end=True),
            _pack_filters("basenames", names.basenames, BASENAMES_MAX, BASENAME_BYTES_MAX),
            _pack_filters("directories", names.directories, DIRECTORIES_MAX, DIRECTORY_BYTES_MAX),
            _SETTINGS_TAIL.pack(
                *who.pid_namespace,
                flags_ignored,
                *who.own,
                *[0] * (OWN_MAX - len(who.own)),
                not who.is_family_seen,
                who.only,
                who.is_following,
                len(names.suffixes),
                len(names.basenames),
                len(names.directories),
                is_folding,
                0,
            ),
        ]
    )


def _pack_filters(
    kind: str, filters: Sequence[bytes], count_max: int, bytes_max: int, *, is_at_end: bool = False
) -> bytes:
    """Values and masks, each in a field of `bytes_max`, the unused fields zero."""
    if len(filters) > count_max:
        raise ValueError(f"{len(filters)} {kind}; the kernel half compares at most {count_max}")
    packed = bytearray()
    for wanted in filters:
        if not 0 < len(wanted) <= bytes_max:
            raise ValueError(f"{kind}: {wanted!r} has {len(wanted)} bytes; it must have 1 to {bytes_max}")
        for field in (wanted, b"\xff" * len(wanted)):
            packed += field.rjust(bytes_max, b"\0") if is_at_end else field.ljust(bytes_max, b"\0")
    return bytes(packed).ljust(count_max * 2 * bytes_max, b"\0")


def total(per_cpu: Sequence[Counters]) -> Counters:
    """The sum over CPUs."""
    return Counters(*(sum(column) for column in zip(*per_cpu, strict=True))) if per_cpu else NOTHING


def split_components(data: bytes) -> list[bytes]:
    """Components of a base or executable, from the root on.

    Args:
        data: components from the last to the first, each with its NUL.

    Raises:
        MalformedEventError: the last byte is no NUL.
    """
    if not data:
        return []
    if data[-1]:
        raise MalformedEventError("a path does not end with a NUL")
    return data[:-1].split(b"\0")[::-1]
