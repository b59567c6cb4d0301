# SPDX-License-Identifier: Apache-2.0
"""Processes that end, with how they ended: one event for each process, however many threads it had.

The kernel half is bpf/process_exit.bpf.c.
"""

from __future__ import annotations

import functools
import signal

from agent.kernel.event import EVENT_PROCESS_EXIT, PROCESS_EXIT, MalformedEventError
from agent.kernel.probes import Event, Spec, executable, origin

SPEC = Spec(
    event=EVENT_PROCESS_EXIT,
    needs=("CAP_BPF", "CAP_PERFMON"),
    kernel="5.8",
    cost="about 2 us for every process that ends",
)

# What wait(2) packs into a status: the signal in seven bits, whether there is a core, and the exit code.
_SIGNAL = 0x7F
_CORE = 0x80
# A shell reports a process that a signal ended as this and the signal's number (POSIX, sh, 2.8.2).
_BY_SIGNAL = 128


class ProcessExit(Event, kw_only=True, frozen=True, tag="process_exit"):
    """The last thread of a process has ended.

    `process` is the name of its first thread; `tid` is the thread that ended last.

    Attributes:
        ppid: number of its parent; 0 where that is outside of this agent's pid namespace.
        exit_code: what it gave to exit(3), 0 to 255; 128 and the signal's number where one ended it, as
            shells have it.
        signal: name of the signal that ended it, for example SIGKILL; None when it ended by itself.
        core_dumped: the kernel says that it wrote a core.
    """

    ppid: int
    exit_code: int
    signal: str | None = None
    core_dumped: bool = False


@functools.lru_cache(maxsize=128)
def signal_name(number: int) -> str:
    """SIGKILL for 9; of the real-time signals the first and last have names, the others SIGRTMIN+n."""
    try:
        return signal.Signals(number).name
    except ValueError:
        above = number - signal.SIGRTMIN
        # Signals 32 and 33 are the C library's own and have no name.
        return f"SIGRTMIN+{above}" if above > 0 else f"SIG{number}"


def decode(record: bytes, wall_offset_ns: int) -> ProcessExit:
    """One record into one event; the contract is in the folder's docstring."""
    if len(record) < PROCESS_EXIT.size:
        raise MalformedEventError(
            f"a record of {len(record)} bytes; process_exit has at least {PROCESS_EXIT.size}"
        )
    kind, notes, fields = origin(record, wall_offset_ns)
    ppid, status, exe_bytes, _ = PROCESS_EXIT.unpack_from(record)[12:]
    if kind != EVENT_PROCESS_EXIT or PROCESS_EXIT.size + exe_bytes != len(record):
        raise MalformedEventError(f"kind {kind} and {exe_bytes} bytes in a record of {len(record)}")
    number = status & _SIGNAL
    return ProcessExit(
        **fields,
        exe=executable(record[PROCESS_EXIT.size :], notes),
        ppid=ppid,
        exit_code=_BY_SIGNAL + number if number else status >> 8 & 0xFF,
        signal=signal_name(number) if number else None,
        core_dumped=bool(status & _CORE),
    )
