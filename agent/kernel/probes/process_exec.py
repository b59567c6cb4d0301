# SPDX-License-Identifier: Apache-2.0
"""Programs that are started, with the arguments that they were really given.

The kernel half is bpf/process_exec.bpf.c. Arguments may hold passwords. So what carries them neither prints
itself nor lets itself be encoded: who shows a command line has to go through `agent.printing.command_line`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from agent.kernel.event import (
    ARGV_BYTES_MAX,
    EVENT_PROCESS_EXEC,
    NOTE_ARGV_CUT,
    PROCESS_EXEC,
    MalformedEventError,
)
from agent.kernel.probes import Event, Spec, executable, origin

SPEC = Spec(
    event=EVENT_PROCESS_EXEC,
    needs=("CAP_BPF", "CAP_PERFMON"),
    kernel="5.8",
    cost="about 3 us for every program that is started",
)


class Argv(Sequence[bytes]):
    """The arguments of a program as they are: raw bytes, secrets among them.

    A sequence of bytes that says only how many it has when it is printed. msgspec refuses to encode it.
    """

    __slots__ = ("_words",)

    def __init__(self, words: Sequence[bytes] = ()) -> None:
        self._words = tuple(words)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, index: int | slice) -> bytes | tuple[bytes, ...]:
        return self._words[index]

    def __len__(self) -> int:
        return len(self._words)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Argv) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"<{len(self)} arguments>"


class ProcessExec(Event, kw_only=True, frozen=True, tag="process_exec"):
    """A process has become another program.

    `process` is its name after that, `exe` the program: of a script, the interpreter.

    Attributes:
        ppid: number of its parent; 0 where that is outside of this agent's pid namespace.
        argv: its arguments, raw. Not encodable: take it out, or give msgspec an `enc_hook` that masks it.
        truncated: there are more arguments than are here, or they could not be read.
    """

    ppid: int
    argv: Argv
    truncated: bool = False


def decode(record: bytes, wall_offset_ns: int) -> ProcessExec:
    """One record into one event; the contract is in the folder's docstring."""
    if len(record) < PROCESS_EXEC.size:
        raise MalformedEventError(
            f"a record of {len(record)} bytes; process_exec has at least {PROCESS_EXEC.size}"
        )
    kind, notes, fields = origin(record, wall_offset_ns)
    ppid, argv_bytes, exe_bytes, _ = PROCESS_EXEC.unpack_from(record)[12:]
    argv_end = PROCESS_EXEC.size + argv_bytes
    if kind != EVENT_PROCESS_EXEC or argv_bytes > ARGV_BYTES_MAX or argv_end + exe_bytes != len(record):
        raise MalformedEventError(
            f"kind {kind}, {argv_bytes} and {exe_bytes} bytes in a record of {len(record)}"
        )
    argv = record[PROCESS_EXEC.size : argv_end]
    return ProcessExec(
        **fields,
        exe=executable(record[argv_end:], notes),
        ppid=ppid,
        # Each argument ends with a NUL, so an empty one at the end counts; a cut one has none.
        argv=Argv(argv.removesuffix(b"\0").split(b"\0") if argv else ()),
        truncated=bool(notes & NOTE_ARGV_CUT),
    )
