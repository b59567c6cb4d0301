# SPDX-License-Identifier: Apache-2.0
"""What do the tests of probes share? The header of a record as the kernel half writes it."""

from __future__ import annotations

import struct

COMMON = {
    "timestamp": "1970-01-01T00:00:11.500000Z",
    "pid": 100,
    "tid": 101,
    "uid": 1000,
    "gid": 1001,
    "process": "nginx",
    "cgroup_id": 8,
    "mount_ns": 4026531841,
    "start_ns": 7,
}
"""What the header says, with a wall clock that is OFFSET_NS ahead of the kernel's."""
OFFSET_NS = 10_000_000_000


def record(
    form: struct.Struct, kind: int, *fields: int, tail: bytes = b"", notes: int = 0, comm: bytes = b"nginx"
) -> bytes:
    """A record: the header, an event's own fields, and what follows them."""
    header = (1_500_000_000, 7, 8, 0, 100, 101, 1000, 1001, 4026531841, kind, notes, comm)
    return form.pack(*header, *fields) + tail


EXE = b"nginx\0sbin\0usr\0"
