# SPDX-License-Identifier: Apache-2.0
"""How is something done that may import, hold and break what it likes? In a child, which reports and ends."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from agent.serving.schedule import Report

# A pipe holds so much (pipe(7)), so that the child never waits for somebody to read.
_REPORT_BYTES_MAX = 64 * 1024
# Of a message, which may quote a path or a server's answer; the longest UTF-8 has four bytes.
_WORDS_CHARS_MAX = 4000


class Job:
    """A child at work."""

    def __init__(
        self, do: Callable[[], Report], *, blocked: Collection[int], tell: Callable[[str], None]
    ) -> None:
        """Start it.

        Args:
            do: the work.
            blocked: signals that are blocked here, and are not to be there.
            tell: is given a line for people, in the child, when the work ends by a mistake of ours.

        Raises:
            OSError: there can be no more processes or files.
        """
        self._fd, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        parent = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self._fd)
            os.close(writing)
            raise
        if self.pid == 0:
            _work(do, parent, writing, blocked, tell)
        os.close(writing)

    def end(self, number: int) -> None:
        """Tell it to end, by a signal."""
        os.kill(self.pid, number)

    def report(self) -> Report | None:
        """What it reports, once it has ended; None before. Not to be asked again after that."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self._fd, _REPORT_BYTES_MAX)
        os.close(self._fd)
        with suppress(msgspec.DecodeError):
            return msgspec.msgpack.decode(data, type=Report)
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return Report(kind="broken", words=how)


def _work(
    do: Callable[[], Report], parent: int, fd: int, blocked: Collection[int], tell: Callable[[str], None]
) -> None:
    """Do it, write the report, and end. For a new child."""
    code = os.EX_SOFTWARE
    try:
        from agent.guard import syscalls

        syscalls.die_with_parent(parent)
        # Ctrl-C at a terminal is for the service, which tells us.
        os.setpgid(0, 0)
        for number in blocked:
            signal.signal(number, signal.SIG_DFL)
        # And in the background of that terminal a word to people must not stop us (tty_ioctl(4)).
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        # A core would put the host's key, and bytes of its files, on the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        report = do()
        words = report.words.encode("utf-8", "backslashreplace").decode()[:_WORDS_CHARS_MAX]
        os.write(fd, msgspec.msgpack.encode(msgspec.structs.replace(report, words=words)))
        code = os.EX_OK
    finally:
        mistake = sys.exception()
        if mistake is not None:
            from agent import run as conductor

            tell(f"bug in the agent: {conductor.describe(mistake)}; please report it")
        # Whatever happened, nothing of the parent's is run or written a second time here.
        os._exit(code)
