# SPDX-License-Identifier: Apache-2.0
"""How are the bytes of found files read without danger? In a child that may do nothing, by typed questions.

The agent opens files, because it holds the privilege to; the child gets the descriptors and reads. Whatever a
file does to it (an endless loop, all memory, a fault in a library, code of its own) costs that file alone:
the child is ended, the file is a CrashedError, and another child reads the rest. See `agent.confine` for what
is taken from a child, and `agent.sandbox_wire` for what it can still say.

A child begins as a copy of this process's memory. So what must stay secret is not held while files are read,
or a process that never held it does the reading.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self, cast

import msgspec

from agent import confine, errors, sandbox_child
from agent.confine import Layer
from agent.host import Host
from agent.parsing import Function, Opened, T
from agent.sandbox_wire import ANSWER_BYTES_MAX, LENGTH, Call

# Of the child's CPU on one file; the slowest honest one (4 MiB of certificates) takes about a second.
FILE_CPU_S = 10.0
# Of waiting for one file: behind everybody else on a busy host a second of CPU may take this long.
FILE_WAIT_S = 60.0
# To be confined and say so.
_START_S = 30.0
# A child is replaced between two questions when it has used so much: the kernel ends it at twice that.
_CHILD_CPU_S = confine.CPU_S_MAX / 2
# Each death may cost FILE_CPU_S. What nobody made on purpose ends no child at all.
DEATHS_MAX = 20
# Whoever puts 20 bad files on a host must not blind an agent that watches for weeks. Answers and not time
# earn another child, so that the same host gives the same answer.
ANSWERS_PER_DEATH = 1000
# All answers to one question, which are held together.
_ANSWERS_BYTES_MAX = 64 * 1024 * 1024
_RECEIVED_BYTES = 256 * 1024
_TICK_S = 1.0
# A killed process that waits for a disk stays until the disk answers; it is waited for later then.
_REAP_S = 2.0


class _LostError(Exception):
    """A child will not answer any more, or not what could be believed. The message tells why, for people."""


class Sandbox:
    """A parser (`agent.parsing.Parser`) whose functions run in a child; the child is made at first need.

    It never raises for a file's sake and never waits for ever. Not for several threads.
    """

    def __init__(
        self,
        *,
        file_cpu_s: float = FILE_CPU_S,
        file_wait_s: float = FILE_WAIT_S,
        deaths_max: int = DEATHS_MAX,
    ) -> None:
        """See the class.

        Args:
            file_cpu_s: CPU time that one file may take.
            file_wait_s: time that one file may take, however busy the host is.
            deaths_max: after so many children nothing is read any more.
        """
        self._file_cpu_s = file_cpu_s
        self._file_wait_s = file_wait_s
        self._deaths_max = self._deaths_left = deaths_max
        self._answers = 0
        self._child: _Child | None = None
        self._owner = os.getpid()
        self._prepared: set[str] = set()
        self._unreaped: list[int] = []
        self._inherited: frozenset[int] = frozenset()

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        """See `agent.parsing.Parser`.

        Raises:
            TypeError, ValueError: the function or its arguments cannot cross: a mistake of ours.
        """
        if not files:
            return []
        call = Call(function, args)
        self._prepare(call.module)
        # Answers are what the return annotation says: the decoder has checked that.
        answers = cast("list[T | errors.HostError]", [])
        paths = [os.fsencode(opened.path) for opened in files]
        unanswered = 0
        while (done := len(answers)) < len(files):
            try:
                child = self._ready(call.module)
            except _LostError as lost:
                answers += [errors.CrashedError(opened.path, str(lost)) for opened in files[done:]]
                break
            message, count = call.question(paths[done:])
            asked = files[done : done + count]
            try:
                child.ask(message, [opened.fd for opened in asked])
            except _LostError as lost:
                # It died while nothing was asked of it: no file's fault, unless it happens again.
                self._bury()
                unanswered += 1
                if unanswered > 1:
                    answers.append(errors.CrashedError(asked[0].path, str(lost)))
                continue
            unanswered = 0
            try:
                for opened in asked:
                    answer = child.answer(call, opened.path, self._file_cpu_s, self._file_wait_s)
                    answers.append(cast("T | errors.HostError", answer))
                    self._earn()
            except _LostError as lost:
                self._bury()
                answers.append(errors.CrashedError(files[len(answers)].path, f"its reader {lost}"))
        return answers

    def start(self) -> None:
        """Make the child now, so that what this process learns later is not in its memory."""
        with suppress(_LostError):
            self._ready(None)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """In which ways a child is held here, and which not, and why; empty where none can be made."""
        self.start()
        return self._child.layers if self._child is not None else ()

    @property
    def pids(self) -> frozenset[int]:
        """See `agent.parsing.Parser`."""
        child = {self._child.pid} if self._child is not None else set()
        return self._inherited.union(child, self._unreaped)

    def close(self) -> None:
        """End the child. Harmless the second time; a question after it makes another one."""
        if self._owner == os.getpid() and self._child is not None:
            self._end()
        self._reap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # -- the child -------------------------------------------------------------------------------------------

    def _prepare(self, module: str) -> None:
        """Have everything in memory that a module's functions need; see `agent.parsing.Function`."""
        if module not in self._prepared:
            self._prepared.add(module)
            prepare = getattr(sys.modules[module], "prepare", None)
            if prepare is not None:
                prepare()
                if self._owner == os.getpid() and self._child is not None:
                    self._end()

    def _ready(self, module: str | None) -> _Child:
        """A child that has the module in its memory.

        Raises:
            _LostError: there is none and will be none; the reason is whole.
        """
        if self._owner != os.getpid():
            # We are a copy ourselves: the child is another process's, and so are the numbers of its past.
            self._owner = os.getpid()
            self._inherited = self.pids
            self._unreaped = []
            if self._child is not None:
                self._child.channel.close()
                self._child = None
        child = self._child
        has_it = child is not None and (module is None or module in child.modules)
        # Answers that nobody waited for, because something interrupted it, would be taken for others.
        if child is not None and has_it and not child.owed and not child.is_spent():
            return child
        if child is not None:
            self._end()
        if not self._deaths_left:
            raise _LostError(f"files before it ended {self._deaths_max} readers, and there are no more")
        try:
            self._child = _Child()
            self._child.greet()
        except (_LostError, OSError) as error:
            if self._child is not None:
                self._end()
            self._deaths_left -= 1
            raise _LostError(f"no process can be made to read it: {_words(error)}") from error
        return self._child

    def _earn(self) -> None:
        self._answers += 1
        if self._answers % ANSWERS_PER_DEATH == 0:
            self._deaths_left = min(self._deaths_left + 1, self._deaths_max)

    def _bury(self) -> None:
        self._deaths_left -= 1
        self._end()

    def _end(self) -> None:
        assert self._child is not None
        child, self._child = self._child, None
        if not child.end():
            self._unreaped.append(child.pid)
        self._reap()

    def _reap(self) -> None:
        if self._owner == os.getpid():
            self._unreaped = [pid for pid in self._unreaped if _waited(pid, 0.0) is None]


class _Child:
    """One child, from its birth to its end."""

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
        """Hear in which layers it is confined. Raises _LostError."""
        try:
            self.layers = msgspec.msgpack.decode(self._message(_START_S, _START_S), type=tuple[Layer, ...])
        except msgspec.MsgspecError as error:
            raise _LostError("said what cannot be right") from error

    def ask(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Send a question. Raises _LostError when it is dead or out of step."""
        if self._received or self._heard.poll(0):
            # Or its end is closed. What it says now would be taken for the answers.
            raise _LostError("ended or spoke without being asked")
        self._answers_bytes = 0
        self.owed = len(descriptors)
        try:
            sent = socket.send_fds(self.channel, [message], descriptors)
        except (ConnectionError, TimeoutError) as error:
            raise _LostError(self._fate()) from error
        if sent != len(message):
            raise _LostError("does not listen")

    def answer(self, call: Call, path: str, cpu_s: float, wait_s: float) -> object:
        """What it says of the next file. Raises _LostError."""
        body = self._message(cpu_s, wait_s)
        self._answers_bytes += len(body)
        if self._answers_bytes > _ANSWERS_BYTES_MAX:
            raise _LostError(f"answered with more than {_ANSWERS_BYTES_MAX} bytes in all")
        try:
            answer = call.answer(body, path)
        except (ValueError, RecursionError, MemoryError) as error:
            raise _LostError("answered what cannot be right") from error
        self.owed -= 1
        return answer

    def is_spent(self) -> bool:
        """Whether it has used so much CPU time that the kernel may soon end it."""
        return self._cpu_s() > _CHILD_CPU_S

    def end(self) -> bool:
        """Kill it; whether it is gone."""
        self.channel.close()
        if self._status is None:
            # What may not be ended, as where a security module forbids it, ends when it looks for a question.
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            self._status = _waited(self.pid, _REAP_S)
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
                    raise _LostError(f"answered with more than {ANSWER_BYTES_MAX} bytes")
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
                raise _LostError(self._fate())
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
        self._status = _waited(self.pid, _TICK_S)
        if self._status is None:
            return "would not answer"
        if self._status < 0:
            return f"was killed by {signal.Signals(-self._status).name}"
        return f"ended with status {self._status}"


class _Watch:
    """How long one file may take."""

    def __init__(self, cpu_s: float, wait_s: float) -> None:
        self._cpu_s, self._wait_s = cpu_s, wait_s
        self._began = time.monotonic()
        self._used_s: float | None = None

    def tick(self, used_s: float) -> None:
        """Nothing was heard for a while. Raises _LostError when that is too long."""
        if self._used_s is None:
            # What it used before this file is not this file's; the first tick itself is.
            self._used_s = used_s - _TICK_S
        if used_s - self._used_s > self._cpu_s:
            raise _LostError(f"was stopped after {self._cpu_s:g} s of CPU")
        self.look()

    def look(self) -> None:
        """Raises _LostError when it is too long."""
        if time.monotonic() - self._began > self._wait_s:
            raise _LostError(f"was stopped after {self._wait_s:g} s")


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


def _waited(pid: int, timeout_s: float) -> int | None:
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


def _words(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else f"it {error}"


@contextmanager
def open_host(root: str = "/") -> Iterator[Host]:
    """The host below a directory, whose files are read in a sandbox that is closed at the end."""
    with Sandbox() as parser:
        yield Host(root, parser=parser)
