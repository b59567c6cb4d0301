# SPDX-License-Identifier: Apache-2.0
"""How does a look at the host end when a scanner does not? They run in a worker that can be ended.

A scanner that hangs, crashes, is killed or eats memory is a failed section with that reason. What was found
before it stays, and what comes after it is for a new worker.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType, ModuleType

from agent.document import Outcome
from agent.guard import worker
from agent.host import Host
from agent.settings import Budget
from agent.words import why

# How often we look whether a worker is alive whose children keep its pipe open.
_LOOK_S = 0.5
# How long a worker that was killed, or has given its last answer, may take to be gone.
_END_S = 5.0
_ENDING = (signal.SIGTERM, signal.SIGHUP)
BUDGET = Budget()


def run_scanners(host: Host, chosen: Mapping[str, ModuleType], budget: Budget = BUDGET) -> dict[str, Outcome]:
    """Every scanner's outcome by section name, as `agent.run.run_scanners` gives it, within a budget.

    A host with a sandbox has its own there: a parser is made by the process that uses it.
    """
    outcomes: dict[str, Outcome] = {}
    left = sorted(chosen)
    end = time.monotonic() + budget.time_s
    while left:
        if time.monotonic() >= end:
            reason = f"was not begun, because the {budget.time_s} s of this look were spent"
            return outcomes | {name: Outcome(spec=chosen[name].SPEC, failure=reason) for name in left}
        try:
            watched = _Worker(host, {name: chosen[name] for name in left}, budget.memory_mib)
        except OSError as error:
            reason = f"no process could be started for it: {why(error)}"
            return outcomes | {name: Outcome(spec=chosen[name].SPEC, failure=reason) for name in left}
        with _ended_with_us(watched.kill):
            try:
                left = _collect(watched, left, chosen, outcomes, budget, end)
            finally:
                watched.end()
    return outcomes


def _collect(
    watched: _Worker,
    names: list[str],
    chosen: Mapping[str, ModuleType],
    outcomes: dict[str, Outcome],
    budget: Budget,
    end: float,
) -> list[str]:
    """Take the worker's answers until one does not come; the names that are for another worker."""
    for number, name in enumerate(names):
        spec = chosen[name].SPEC
        own_end = time.monotonic() + budget.scanner_time_s
        try:
            message = watched.answer(min(own_end, end))
        except TimeoutError:
            reason = (
                f"did not end within {budget.scanner_time_s} s"
                if own_end <= end
                else f"did not end within what was left of the {budget.time_s} s of this look"
            )
            if not watched.end():
                reason += ", and cannot be killed: it waits in the kernel, perhaps for a disk that hangs"
            outcomes[name] = Outcome(spec=spec, failure=reason)
            return names[number + 1 :]
        except _TooMuchError:
            outcomes[name] = Outcome(spec=spec, failure=worker.TOO_MUCH)
            return names[number + 1 :]
        if message is None:
            if number and watched.is_well():
                # It ended by itself between two scanners: it has used up its memory, and said so.
                return names[number:]
            outcomes[name] = Outcome(spec=spec, failure=watched.how_it_ended())
            return names[number + 1 :]
        outcomes[name] = worker.decode(spec, message)
    return []


class _TooMuchError(Exception):
    """An answer that is larger than any may be."""


class _Worker:
    """A process that scans."""

    def __init__(self, host: Host, chosen: Mapping[str, ModuleType], memory_mib: int) -> None:
        """Start it. Raises OSError when there can be no more processes or files."""
        self._status: int | None = None
        self._is_killed = False
        self._is_drained = False
        self._frames = bytearray()
        self._fd, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._fd)
            os.close(writing)
            raise
        if self._pid == 0:
            worker.work(host, chosen, memory_mib, parent, writing)
        os.close(writing)
        # Both sides do it, so that it is done whoever comes first.
        with suppress(OSError):
            os.setpgid(self._pid, self._pid)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def answer(self, end: float) -> bytearray | None:
        """The next message; None when there will be none.

        Raises:
            TimeoutError: it did not come until `end`, by the monotonic clock.
        """
        while True:
            message = self._message()
            if message is not None:
                return message
            if self._is_drained:
                return None
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            is_dead = self._is_dead()
            if self._poll.poll(0 if is_dead else min(left_s, _LOOK_S) * 1000):
                self._read()
            elif is_dead:
                # What it started may still have the other end.
                self._is_drained = True

    def _read(self) -> None:
        # Another reader there is none, but a signal may have come between.
        with suppress(BlockingIOError):
            chunk = os.read(self._fd, 1 << 20)
            self._frames += chunk
            self._is_drained = not chunk

    def _message(self) -> bytearray | None:
        if len(self._frames) < worker.HEADER_BYTES:
            return None
        size = int.from_bytes(self._frames[: worker.HEADER_BYTES])
        if size > worker.FRAME_BYTES_MAX:
            raise _TooMuchError
        end = worker.HEADER_BYTES + size
        if len(self._frames) < end:
            return None
        message = self._frames[worker.HEADER_BYTES : end]
        del self._frames[:end]
        return message

    def _is_dead(self) -> bool:
        """Whether it ended. It keeps its number until `end`, so that no other process is killed for it."""
        if self._status is not None:
            return True
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def is_well(self) -> bool:
        """Whether it ended by itself, and well."""
        self._wait()
        return self._status == os.EX_OK

    def how_it_ended(self) -> str:
        """Why there was no answer, in words."""
        self._wait()
        if self._status is None:
            return "gave no answer, and cannot be killed: it waits in the kernel"
        if self._is_killed:
            return "gave no answer, and did not end"
        if self._status < 0:
            name = signal.Signals(-self._status).name
            shortage = ", as the kernel does when memory is short" if name == "SIGKILL" else ""
            return f"was killed by {name}{shortage}"
        return f"ended its process, with exit status {self._status}"

    def kill(self) -> None:
        """End it and all that it started, at once. May be called from a signal handler, and again."""
        if self._status is None:
            with suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)

    def end(self) -> bool:
        """Leave nothing of it; whether it could be ended. Harmless the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._wait()
        return self._status is not None

    def _wait(self) -> None:
        """Kill what is left of it and take its status, unless the kernel does not let go of it."""
        if self._status is not None:
            return
        end = time.monotonic() + _END_S
        pause_s = 0.001
        # One that is at its very end may have a last word: its exit status.
        while self._is_drained and not self._is_dead() and time.monotonic() < end:
            time.sleep(pause_s)
        self._is_killed = not self._is_dead()
        self.kill()
        end = time.monotonic() + _END_S
        while time.monotonic() < end:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                return
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)


@contextmanager
def _ended_with_us(kill: Callable[[], None]) -> Iterator[None]:
    """Where a signal would end this process without a word, end the worker first, and all that it started.

    (Without this the worker itself would be killed by the kernel; the tools that it runs would not.)
    """

    def end(number: int, _frame: FrameType | None) -> None:
        kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    changed = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
