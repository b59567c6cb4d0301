# SPDX-License-Identifier: Apache-2.0
"""A running agent ends when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from agent.serving.stop import Stop


def test_what_was_said_ends_every_wait() -> None:
    """Before it begins, and as often as one waits."""
    stop = Stop()
    assert stop.wait(0) is False

    stop.set()

    assert stop.wait(3600) is True
    assert stop.wait(3600) is True
    assert stop.is_set()


def test_saying_it_often_never_blocks() -> None:
    """A pipe holds 64 KiB; an impatient operator sends more signals than that."""
    stop = Stop()

    for _ in range(70_000):
        stop.set()

    assert stop.is_set()


def test_a_signal_ends_a_wait_at_once() -> None:
    """Both that systemd and a terminal send."""
    program = (
        "from agent.serving.stop import Stop; s = Stop(); s.listen(); print('ready', flush=True); s.wait(600)"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"

            os.kill(child.pid, number)

            assert child.wait(60) == 0
