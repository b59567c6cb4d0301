# SPDX-License-Identifier: Apache-2.0
"""What does the service tell systemd? That it is ready, how it is doing, that it is alive: a datagram each.

The protocol is in sd_notify(3) and is promised to stay (systemd.io/PORTABILITY_AND_STABILITY). Of the
libraries for it the pure one has had no release since 2017, and the other needs libsystemd on every host.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG_USEC = "WATCHDOG_USEC"
_WATCHDOG_PID = "WATCHDOG_PID"


class Notifier:
    """The way to who started us; words go nowhere where that is not systemd."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Take the way from the environment, where no child of ours shall find it."""
        environ = os.environ if environ is None else environ
        address = environ.pop(_SOCKET, "")
        interval, pid = environ.pop(_WATCHDOG_USEC, ""), environ.pop(_WATCHDOG_PID, "")
        self._address = ""
        if address.startswith(("/", "@")):
            # An abstract socket's name begins with a zero, which an environment cannot hold.
            self._address = "\0" + address[1:] if address.startswith("@") else address
        # The one file's first process, which systemd knows, only waits for us; the dog is ours to feed.
        is_ours = pid in ("", str(os.getpid()), str(os.getppid()))
        self.watchdog_s = int(interval) / 1e6 if is_ours and interval.isdecimal() and int(interval) else None
        """How often we have to say that we are alive; None where nobody watches."""
        self._status = ""

    def ready(self) -> None:
        """The service does its work."""
        self._send("READY=1")

    def status(self, words: str) -> None:
        """One line for people, for `systemctl status`."""
        if words != self._status:
            self._status = words
            self._send(f"STATUS={words}")

    def reloading(self) -> None:
        """The configuration is being read anew; `ready` says that it has been."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """For the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def _send(self, words: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            # A full queue at the other end must not stop us.
            way.settimeout(0)
            # Nobody there, or nobody who reads: it is they who wanted to know.
            with suppress(OSError):
                way.sendto(words.encode("utf-8", "backslashreplace"), self._address)
