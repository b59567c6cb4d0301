# SPDX-License-Identifier: Apache-2.0
"""How is a running agent told to stop? By a signal that ends its waiting, at whatever moment it comes."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress


class Stop:
    """Set once, by SIGTERM, SIGINT or a call.

    A threading.Event takes a lock that the interrupted code may hold, and then both wait for ever. Here the
    handler only sets a flag and writes a byte into a pipe that the waiting reads.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def listen(self) -> None:
        """Be set by SIGTERM and SIGINT from now on. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.set())

    def set(self) -> None:
        """Say that it is time. May be called from a signal handler, and again."""
        self._is_set = True
        # A full pipe has been written to often enough.
        with suppress(BlockingIOError):
            os.write(self._write, b"x")

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is said, or the time is over; whether it was said."""
        if not self._is_set:
            select.select([self._read], [], [], timeout_s)
        return self._is_set
