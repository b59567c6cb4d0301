# SPDX-License-Identifier: Apache-2.0
"""How are the bytes of found files read without danger? In a child that may do nothing, by typed questions.

The agent opens files, because it holds the privilege to; the child gets the descriptors and reads. Whatever a
file does to it (an endless loop, all memory, a fault in a library, code of its own) costs that file alone:
the child is ended, the file is a CrashedError, and another child reads the rest. See `confine` for what is
taken from a child, and `sandbox_wire` for what it can still say.

A child begins as a copy of this process's memory. So what must stay secret is not held while files are read,
or a process that never held it does the reading.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self, cast

from agent import errors
from agent.guard.confine import Layer
from agent.guard.parsing import Function, Opened, T
from agent.guard.reader import LostError, Reader, waited
from agent.guard.sandbox_wire import Call
from agent.host import Host
from agent.words import why

# Of the child's CPU on one file; the slowest honest one (4 MiB of certificates) takes about a second.
FILE_CPU_S = 10.0
# Of waiting for one file: behind everybody else on a busy host a second of CPU may take this long.
FILE_WAIT_S = 60.0
# Each death may cost FILE_CPU_S. What nobody made on purpose ends no child at all.
DEATHS_MAX = 20
# Whoever puts 20 bad files on a host must not blind an agent that watches for weeks. Answers and not time
# earn another child, so that the same host gives the same answer.
ANSWERS_PER_DEATH = 1000


class _UnmadeError(LostError):
    """There is no child to ask. The reason is whole."""


class Sandbox:
    """A parser (`parsing.Parser`) whose functions run in a child; the child is made at first need.

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
        self._child: Reader | None = None
        self._owner = os.getpid()
        self._prepared: set[str] = set()
        self._unreaped: list[int] = []
        self._inherited: frozenset[int] = frozenset()

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        """See `agent.guard.parsing.Parser`.

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
            except _UnmadeError as unmade:
                # No byte of them was read, so that they have ended nothing.
                answers += [errors.UnreadableError(opened.path, str(unmade)) for opened in files[done:]]
                break
            except LostError as lost:
                answers += [errors.CrashedError(opened.path, str(lost)) for opened in files[done:]]
                break
            message, count = call.question(paths[done:])
            asked = files[done : done + count]
            try:
                child.ask(message, [opened.fd for opened in asked])
            except LostError as lost:
                # It died while nothing was asked of it: no file's fault, unless it happens again.
                self._bury()
                unanswered += 1
                if unanswered > 1:
                    answers.append(errors.CrashedError(asked[0].path, f"its reader {lost}"))
                continue
            unanswered = 0
            try:
                for opened in asked:
                    answer = child.answer(call, opened.path, self._file_cpu_s, self._file_wait_s)
                    answers.append(cast("T | errors.HostError", answer))
                    self._earn()
            except LostError as lost:
                self._bury()
                answers.append(errors.CrashedError(files[len(answers)].path, f"its reader {lost}"))
        return answers

    def start(self) -> None:
        """Make the child now, so that what this process learns later is not in its memory."""
        with suppress(LostError):
            self._ready(None)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """In which ways a child is held here, and which not, and why; empty where none can be made."""
        self.start()
        return self._child.layers if self._child is not None else ()

    @property
    def pids(self) -> frozenset[int]:
        """See `agent.guard.parsing.Parser`."""
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
        """Have everything in memory that a module's functions need; see `agent.guard.parsing.Function`."""
        if module not in self._prepared:
            self._prepared.add(module)
            prepare = getattr(sys.modules[module], "prepare", None)
            if prepare is not None:
                prepare()
                if self._owner == os.getpid() and self._child is not None:
                    self._end()

    def _ready(self, module: str | None) -> Reader:
        """A child that has the module in its memory.

        Raises:
            LostError: there is none and will be none; the reason is whole.
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
            raise LostError(f"files before it ended {self._deaths_max} readers, and there are no more")
        try:
            self._child = Reader()
        except OSError as error:
            # It takes no time, and costs no death: when the host has processes left again, so have we.
            raise _UnmadeError(f"no reader could be made: {why(error)}") from error
        try:
            self._child.greet()
        except LostError as lost:
            self._bury()
            raise _UnmadeError(f"no reader could be made: it {lost}") from lost
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
            self._unreaped = [pid for pid in self._unreaped if waited(pid, 0.0) is None]


@contextmanager
def open_host(root: str = "/") -> Iterator[Host]:
    """The host below a directory, whose files are read in a sandbox that is closed at the end."""
    with Sandbox() as parser:
        yield Host(root, parser=parser)
