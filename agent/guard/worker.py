# SPDX-License-Identifier: Apache-2.0
"""How does a scanner run where it can harm nobody? In a process of its own, whose answers come as frames.

A frame is eight bytes of length and a message of that length, one for each scanner in its turn. Both sides
are this program, in one version: there is nothing to negotiate.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType

import msgspec
from msgspec import Struct

from agent import errors
from agent.document import Outcome
from agent.guard import syscalls
from agent.host import Host
from agent.model.inventory import Entry, SkipReason
from agent.run import run_one
from agent.scanners import Scan, Spec
from agent.survey.process import Process

HEADER_BYTES = 8
# A section's two parts hold 16 MiB, and what is listed of processes is no more. Whoever collects takes no
# more into memory than this.
FRAME_BYTES_MAX = 64 * 1024 * 1024
TOO_MUCH = f"found more than the {FRAME_BYTES_MAX // 2**20} MiB that are passed on"
# What a scanner that has used up its memory gets on top, to say so.
_RESERVE_BYTES = 16 * 1024 * 1024
_MIB = 1024 * 1024


class _Message(Struct, array_like=True):
    """A scan as it crosses over. Entries are read one by one: one that no document takes costs no other."""

    failure: str | None
    entries: list[msgspec.Raw] = []
    skipped: dict[SkipReason, int] = {}
    examples: list[str] = []
    absent: str | None = None
    rung: str | None = None
    rung_reason: str | None = None
    live: dict[str, int] = {}
    processes: list[Process] = []


_encoder = msgspec.msgpack.Encoder()
_entries = msgspec.msgpack.Decoder(Entry)
_messages = msgspec.msgpack.Decoder(_Message)


def encode(outcome: Outcome) -> bytes:
    """The message of an outcome, without its spec."""
    scan = outcome.scan
    if scan is None:
        return _encoder.encode(_Message(failure=_words(outcome.failure or "failed without a word")))
    return _encoder.encode(
        _Message(
            failure=_words(outcome.failure),
            entries=[msgspec.Raw(_encoder.encode(entry)) for entry in scan.entries],
            skipped=scan.skipped,
            examples=scan.examples,
            absent=_words(scan.absent),
            rung=scan.rung,
            rung_reason=_words(scan.rung_reason),
            live=scan.live,
            processes=scan.processes,
        )
    )


def decode(spec: Spec, message: bytes | bytearray) -> Outcome:
    """The outcome of a message. An entry beyond every limit of the model is counted and left out."""
    try:
        read = _messages.decode(message)
    except msgspec.DecodeError as error:
        return Outcome(spec=spec, failure=f"bug in scanner: {error} in what it found; please report it")
    if read.failure is not None:
        return Outcome(spec=spec, failure=read.failure)
    scan = Scan(
        skipped=read.skipped,
        examples=read.examples,
        absent=read.absent,
        rung=read.rung,
        rung_reason=read.rung_reason,
        live=read.live,
        processes=read.processes,
    )
    for raw in read.entries:
        try:
            scan.entries.append(_entries.decode(raw))
        except msgspec.ValidationError as error:
            scan.skip("too_large", f"an entry: {error}")
    return Outcome(spec=spec, scan=scan)


def _words(words: str | None) -> str | None:
    """Errors quote paths as they are, in any bytes."""
    return None if words is None else words.encode("utf-8", "backslashreplace").decode()


def work(host: Host, chosen: Mapping[str, ModuleType], memory_mib: int, parent: int, fd: int) -> None:
    """Be the worker from here on: run the scanners, write a frame for each, and end. For a new child.

    Args:
        chosen: in the order in which they run.
        memory_mib: what may be held; a scanner that needs more fails, and this process ends after it.
        parent: its pid.
        fd: where the frames go.
    """
    code = os.EX_SOFTWARE
    try:
        _settle(parent, memory_mib)
        # Who waits for us has libraries of ours in its memory, too.
        host.note_relative(parent)
        for left, module in zip(reversed(range(len(chosen))), chosen.values(), strict=True):
            is_spent = _answer(host, module, memory_mib, fd, is_last=not left)
            if is_spent:
                break
        code = os.EX_OK
    finally:
        # Whatever happened, nothing of the parent's is run or written a second time here.
        os._exit(code)


def _settle(parent: int, memory_mib: int) -> None:
    """Bound what this process may do, and end with the parent."""
    # One group with all that it starts, so that it can be ended with them.
    os.setpgid(0, 0)
    syscalls.die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # It is in the background of its terminal now, and a word of complaint must not stop it (tty_ioctl(4)).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    memory_bytes = memory_mib * _MIB
    # Private memory (Linux 4.7 and later), not address space: a mapped file costs the host nothing.
    _limit(resource.RLIMIT_DATA, memory_bytes, memory_bytes + _RESERVE_BYTES)
    # A core would put bytes of the host's files on its disk.
    _limit(resource.RLIMIT_CORE, 0, 0)
    # When the host is short of memory, this is what it can best do without.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as page:
        page.write("1000")
    # What was made before the fork stays as it is, and so stays shared.
    gc.freeze()


def _limit(which: int, soft: int, hard: int) -> None:
    """Lower a limit. One that is lower already stays."""
    was = [sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(which)]
    hard = min(hard, was[1])
    resource.setrlimit(which, (min(soft, was[0], hard), hard))


def _answer(host: Host, module: ModuleType, memory_mib: int, fd: int, *, is_last: bool) -> bool:
    """Run one scanner and write its frame; whether it used up the memory."""
    spec: Spec = module.SPEC
    is_spent = False

    def spend() -> str:
        nonlocal is_spent
        is_spent = True
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return f"needed more than {memory_mib} MiB of memory"

    def scan() -> Scan:
        try:
            found: Scan = module.scan(host)
        except MemoryError:
            raise errors.AgentError(spend()) from None
        return found

    outcome = run_one(spec, scan)
    try:
        message = encode(outcome)
    except MemoryError:
        message = encode(Outcome(spec=spec, failure=spend()))
    except (TypeError, ValueError) as error:
        # A name that was not escaped is a UnicodeEncodeError, which is a ValueError.
        kind = type(error).__name__
        message = encode(
            Outcome(spec=spec, failure=f"bug in scanner: {kind} in what it found; please report it")
        )
    if len(message) > FRAME_BYTES_MAX:
        message = encode(Outcome(spec=spec, failure=TOO_MUCH))
    if is_last or is_spent:
        # Before the frame, after which nobody waits for us: what the files' reader cost is counted then.
        host.close()
    _write_all(fd, len(message).to_bytes(HEADER_BYTES))
    _write_all(fd, message)
    return is_spent


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
