# SPDX-License-Identifier: Apache-2.0
"""How is one reader made, asked, watched and ended? A child of a sandbox, as its parent deals with it.

A parent believes nothing that it says beyond its type and size, waits no longer than a file may take, and
never for a process to end that does not.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from agent.guard import confine, sandbox_child
from agent.guard.confine import Layer
from agent.guard.sandbox_wire import ANSWER_BYTES_MAX, LENGTH, Call

# To be confined and say so.
_START_S = 30.0
# A reader is replaced between two questions when it has used so much CPU: the kernel ends it at twice that.
_CPU_S = confine.CPU_S_MAX / 2
# All answers to one question, which are held together.
_ANSWERS_BYTES_MAX = 64 * 1024 * 1024
_RECEIVED_BYTES = 256 * 1024
_TICK_S = 1.0
# A killed process that waits for a disk stays until the disk answers; it is waited for later then.
_REAP_S = 2.0


class LostError(Exception):
    """A child will not answer any more, or not what could be believed. The message tells why, for people."""


class Reader:
    """One reader, from its birth to its end."""

    def __init__(self) -> None:
        """Be forked. Raises OSError when there can be no more processes or descriptors."""
        self.layers: tuple[Layer, ...] = ()
        self.modules = frozenset(sys.modules)
        """What it has in its memory, and all that it will ever have."""
        self.owed = 0
        """How many answers it has not given yet."""
        self._received = bytearray()
        self._answers_bytes = 0
        self._status: int | None = None
        self.channel, other = socket.socketpair()
        try:
            self.pid = _fork(other.fileno())
        except OSError:
            self.channel.close()
            raise
        finally:
            other.close()
        self.channel.settimeout(_TICK_S)
        self._heard = select.poll()
        self._heard.register(self.channel, select.POLLIN)

    def greet(self) -> None:
        """Hear in which layers it is confined. Raises LostError."""
        try:
            self.layers = msgspec.msgpack.decode(self._message(_START_S, _START_S), type=tuple[Layer, ...])
        except msgspec.MsgspecError as error:
            raise LostError("said what cannot be right") from error

    def ask(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Send a question. Raises LostError when it is dead or out of step."""
        if self._received or self._heard.poll(0):
            # Or its end is closed. What it says now would be taken for the answers.
            raise LostError("ended or spoke without being asked")
        self._answers_bytes = 0
        self.owed = len(descriptors)
        try:
            sent = socket.send_fds(self.channel, [message], descriptors)
        except (ConnectionError, TimeoutError) as error:
            raise LostError(self._fate()) from error
        if sent != len(message):
            raise LostError("does not listen")

    def answer(self, call: Call, path: str, cpu_s: float, wait_s: float) -> object:
        """What it says of the next file. Raises LostError."""
        body = self._message(cpu_s, wait_s)
        self._answers_bytes += len(body)
        if self._answers_bytes > _ANSWERS_BYTES_MAX:
            raise LostError(f"answered with more than {_ANSWERS_BYTES_MAX} bytes in all")
        try:
            answer = call.answer(body, path)
        except (ValueError, RecursionError, MemoryError) as error:
            raise LostError("answered what cannot be right") from error
        self.owed -= 1
        return answer

    def is_spent(self) -> bool:
        """Whether it has used so much CPU time that the kernel may soon end it."""
        return self._cpu_s() > _CPU_S

    def end(self) -> bool:
        """Kill it; whether it is gone."""
        self.channel.close()
        if self._status is None:
            # What may not be ended, as where a security module forbids it, ends when it looks for a question.
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            self._status = waited(self.pid, _REAP_S)
        return self._status is not None

    def _message(self, cpu_s: float, wait_s: float) -> bytearray:
        """The next whole message, without its length."""
        received = self._received
        watch: _Watch | None = None
        while True:
            if len(received) >= LENGTH.size:
                end = LENGTH.size + LENGTH.unpack_from(received)[0]
                # One byte for the kind.
                if end > LENGTH.size + 1 + ANSWER_BYTES_MAX:
                    raise LostError(f"answered with more than {ANSWER_BYTES_MAX} bytes")
                if len(received) >= end:
                    body = received[LENGTH.size : end]
                    del received[:end]
                    return body
            watch = watch or _Watch(cpu_s, wait_s)
            try:
                data = self.channel.recv(_RECEIVED_BYTES)
            except TimeoutError:
                watch.tick(self._cpu_s())
                continue
            except ConnectionError:
                data = b""
            if not data:
                raise LostError(self._fate())
            received += data
            # One that lets a byte drop now and then is stopped too.
            watch.look()

    def _cpu_s(self) -> float:
        """CPU time it has used (clock_getcpuclockid(3)); 0 where it is gone."""
        try:
            return time.clock_gettime(~self.pid << 3 | 2)
        except OSError:
            return 0.0

    def _fate(self) -> str:
        """How it ended. What has closed its end is ending or will be ended."""
        self._status = waited(self.pid, _TICK_S)
        if self._status is None:
            return "would not answer"
        if self._status < 0:
            names = {int(known): known.name for known in signal.Signals}
            return f"was killed by {names.get(-self._status, f'signal {-self._status}')}"
        return f"ended with status {self._status}"


class _Watch:
    """How long one file may take."""

    def __init__(self, cpu_s: float, wait_s: float) -> None:
        self._cpu_s, self._wait_s = cpu_s, wait_s
        self._began = time.monotonic()
        self._used_s: float | None = None

    def tick(self, used_s: float) -> None:
        """Nothing was heard for a while. Raises LostError when that is too long."""
        if self._used_s is None:
            # What it used before this file is not this file's; the first tick itself is.
            self._used_s = used_s - _TICK_S
        if used_s - self._used_s > self._cpu_s:
            raise LostError(f"was stopped after {self._cpu_s:g} s of CPU")
        self.look()

    def look(self) -> None:
        """Raises LostError when it is too long."""
        if time.monotonic() - self._began > self._wait_s:
            raise LostError(f"was stopped after {self._wait_s:g} s")


def _fork(socket_fd: int) -> int:
    """A child that serves at the other end of a socket; its pid."""
    parent = os.getpid()
    # Until it has forgotten our handlers, no signal may run them in it.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            sandbox_child.serve(socket_fd, parent)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def waited(pid: int, timeout_s: float) -> int | None:
    """Exit status of a child, negative for a signal; None while it has not ended."""
    until = time.monotonic() + timeout_s
    pause_s = 0.0002
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody has it waited for already, as with SIGCHLD ignored.
            return 0
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)
