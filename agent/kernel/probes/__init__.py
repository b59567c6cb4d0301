# SPDX-License-Identifier: Apache-2.0
"""Probes: one file per kind of event that the kernel half reports, each with one program of bpf/.

The contract. A probe is a module in this folder and bpf/<its name>.bpf.c with a program of that name and a
ring `<its name>_ring`. Its file name is its name in configuration, JSON, command line and coverage; the first
sentence of its docstring is its help. It has

    SPEC = Spec(...)                                            what it looks for and what it costs
    def decode(record: bytes, wall_offset_ns: int) -> Event     one record of the ring into one event: pure

decode raises MalformedEventError for a record that is not what bpf/event.h says; it is counted and skipped.
Nothing else has to be edited to add one: the Makefile and the packaging find both files.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from agent.kernel.event import (
    EVENT_HEADER,
    NOTE_EXE_CUT,
    NOTE_EXE_DELETED,
    MalformedEventError,
    NameFilter,
    split_components,
)
from agent.model import canonical

DELETED = " (deleted)"
"""After the name of a file that has none any more, as in /proc."""

_NO_NAMES = NameFilter()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a probe is, without loading it."""

    event: int
    """EVENT_* of its records, in bpf/event.h."""
    needs: tuple[str, ...]
    """Capabilities, for people."""
    kernel: str
    """The oldest kernel, for people; what counts is whether this one accepts it."""
    cost: str
    """What it costs the processes of the host, measured, for people."""
    names: NameFilter = _NO_NAMES
    """Which names of files the kernel half reports, where it goes by names; all else stays in the kernel."""
    flags_ignored: int = 0
    """Opens with any of these O_* flags stay in the kernel."""
    calls: int | None = None
    """CALLS_* of the system calls that its program is given; None where it is attached by itself."""
    can_fold: bool = False
    """Whether the kernel half can report equal events once and count the rest (map `<probe>_folds`)."""
    ring_bytes: int = 1024 * 1024
    """Size of its ring, a power of 2: some 5,000 events in 1 MiB. Kernel memory that cannot be swapped."""


class Event(Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="event_type"):
    """What every event says about the process that caused it.

    Attributes:
        timestamp: when, UTC with six digits.
        pid: process number, as this agent's pid namespace knows it.
        tid: thread number, the same way.
        uid: real user, in the initial user namespace.
        gid: real group.
        process: the thread's name (comm), at most 15 bytes.
        exe: the executable as its own container sees it, ` (deleted)` after it when it has no name any more.
            None for a kernel thread, or when the path could not be read.
        cgroup_id: inode of the process's directory in the cgroup2 hierarchy.
        mount_ns: inode of its mount namespace, to whose root its paths belong.
        start_ns: CLOCK_BOOTTIME of the process's start: with pid, one process for ever.
        count: how many events this one stands for.
    """

    timestamp: str
    pid: int
    tid: int
    uid: int
    gid: int
    process: str
    exe: str | None = None
    cgroup_id: int = 0
    mount_ns: int = 0
    start_ns: int = 0
    count: int = 1


@functools.lru_cache(maxsize=4)
def _second(epoch_s: int) -> str:
    return canonical.timestamp(epoch_s * 1_000_000_000).removesuffix("000000Z")


def timestamp(epoch_ns: int) -> str:
    """`canonical.timestamp`, quick for a stream, whose events share their seconds: 0.4 us instead of 2."""
    epoch_s, rest_ns = divmod(epoch_ns, 1_000_000_000)
    return f"{_second(epoch_s)}{rest_ns // 1000:06}Z"


class Origin(NamedTuple):
    """The fields of an event that its header holds, as they come out of it, and how to read the rest."""

    kind: int
    notes: int
    fields: dict[str, Any]


def origin(record: bytes, wall_offset_ns: int) -> Origin:
    """Who caused an event and when, without its executable.

    Raises:
        MalformedEventError: the record is shorter than a header.
    """
    if len(record) < EVENT_HEADER.size:
        raise MalformedEventError(f"a record of {len(record)} bytes; a header has {EVENT_HEADER.size}")
    time_ns, start_ns, cgroup_id, _, tgid, tid, uid, gid, mount_ns, kind, notes, comm = (
        EVENT_HEADER.unpack_from(record)
    )
    return Origin(
        kind,
        notes,
        {
            "timestamp": timestamp(time_ns + wall_offset_ns),
            "pid": tgid,
            "tid": tid,
            "uid": uid,
            "gid": gid,
            "process": canonical.escape_bytes(comm.partition(b"\0")[0]),
            "cgroup_id": cgroup_id,
            "mount_ns": mount_ns,
            "start_ns": start_ns,
        },
    )


def executable(components: bytes, notes: int) -> str | None:
    """`exe` of an event: absent where the process has none, or its path could not be read whole.

    Raises:
        MalformedEventError: the components do not end.
    """
    if not components or notes & NOTE_EXE_CUT:
        return None
    path = canonical.escape_bytes(b"/".join([b"", *split_components(components)]))
    return path + DELETED if notes & NOTE_EXE_DELETED else path


class Probe(Protocol):
    """The shape of a module in this folder."""

    SPEC: Spec

    def decode(self, record: bytes, wall_offset_ns: int) -> Event:
        """One record into one event.

        Args:
            record: as it came from the ring.
            wall_offset_ns: the wall clock minus CLOCK_MONOTONIC of the kernel half.

        Raises:
            MalformedEventError: it is not what bpf/event.h says.
        """
        ...
