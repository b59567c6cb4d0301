# SPDX-License-Identifier: Apache-2.0
"""Commands that watch, run as users run them, while real programs do what is to be seen."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from agent import errors
from tests.agent.cli.commands import AGENT, ENVIRONMENT


class Watching:
    """A command that watches, from the moment on at which it sees everything."""

    def __init__(
        self,
        *words: str | Path,
        command: str = "files",
        stdout: int | IO[bytes] = -1,
        agent: tuple[str | Path, ...] = AGENT,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, *agent, command, *words],
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            # Nothing is read ahead of the first line, where `communicate` would not find it.
            env=ENVIRONMENT, bufsize=0,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline().decode().rstrip()]
        if ": watching " not in self.said[0]:
            _, rest = self.process.communicate()
            assert self.process.returncode in (errors.EXIT_KERNEL, errors.EXIT_ATTACH), (self.said, rest)
            pytest.skip(self.said[0])

    def tell(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def finish(self, number: int | None = signal.SIGINT) -> bytes:
        """What it printed, once it is told to stop, or stops by itself."""
        if number is not None:
            self.tell(number)
        try:
            out, err = self.process.communicate(timeout=60)
        except BaseException:
            self.process.kill()
            raise
        self.said += err.decode().splitlines()
        assert "Traceback" not in err.decode(), err
        self.out = out or b""
        return self.out

    def end(self, number: int | None = signal.SIGINT) -> list[dict[str, Any]]:
        """The same, of lines that are whole events."""
        return [json.loads(line) for line in self.finish(number).splitlines()]


def open_with(program: str, *paths: str | Path) -> None:
    """Somebody else's program opens the files, there or not."""
    subprocess.run([program, *paths], check=False, capture_output=True, stdin=subprocess.DEVNULL)


def of(events: list[dict[str, Any]], path: str | Path) -> list[dict[str, Any]]:
    """Those about one file."""
    return [event for event in events if event.get("file") == str(path)]


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what will be so; a minute is never needed, and more than enough on a busy machine."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
