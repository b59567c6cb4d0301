# SPDX-License-Identifier: Apache-2.0
"""How does a test run a real collector? `fleet serve` in a process of its own, over TLS on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from fleet.cli.token import create_token
from fleet.config import DataDir
from tests.fleet.sender import Sender, connect

# What changes without a post being taken: who was refused, and that somebody asked whether it can write.
_ASIDE = {"audit", "readiness", "_sqlite_migrations", "sqlite_sequence"}


@dataclass
class Running:
    """A collector that accepts connections."""

    process: subprocess.Popen[str]
    url: str
    pin: str
    data: DataDir

    @property
    def ca(self) -> Path:
        return self.data.ca / "ca.pem"

    def client(self) -> httpx.Client:
        return connect(self.url, self.ca)

    def token(self, *, uses: int = 1, ttl_s: int = 3600, group: str | None = None) -> str:
        return create_token(self.data, uses=uses, ttl_s=ttl_s, group=group)[0]

    def enrolled(self, client: httpx.Client) -> Sender:
        """A new host."""
        sender = Sender(client)
        answer = sender.enroll(self.token())
        assert answer.status_code == 201, answer.text
        return sender

    def dump(self) -> str:
        return dump(self.data)

    def kill(self) -> None:
        """End it without any warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> tuple[int, str]:
        """End it as systemd does: its exit code and its log."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


def command(*arguments: str, prelude: str = "") -> list[str]:
    """The `fleet` command with these arguments; `prelude` is run before it in the same process."""
    return [sys.executable, "-c", f"{prelude}\nfrom fleet.cli import main; main()", *arguments]


def start(
    data: DataDir, *options: str, listen: str = "127.0.0.1:0", log: Path | None = None, prelude: str = ""
) -> Running:
    """Start a collector on that directory, initialising it, and wait until it listens."""
    arguments = ["serve", "--init", "--data", str(data.root), "--listen", listen, *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRYPTOFLEET_")}
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(log.open("a")) if log else subprocess.PIPE
        process = subprocess.Popen(
            command(*arguments, prelude=prelude),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("listening on "):
            return Running(process, line.split()[-1], said[0].removeprefix("ca pin "), data)
    process.wait()
    raise AssertionError(f"the collector ended with {process.returncode}: {said} {process.communicate()[1]}")


@contextlib.contextmanager
def running(data: DataDir, *options: str, prelude: str = "") -> Iterator[Running]:
    """A collector for the length of a block; it must end well."""
    log = data.root.parent / "collector.log"
    collector = start(data, *options, log=log, prelude=prelude)
    try:
        yield collector
    finally:
        collector.process.send_signal(signal.SIGTERM)
        collector.process.wait(timeout=60)
        assert collector.process.stdout is not None
        collector.process.stdout.close()
        if collector.process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(
                f"the collector ended with {collector.process.returncode}:\n{log.read_text()}"
            )


def dump(data: DataDir) -> str:
    """Every row of every table that a post can change."""
    connection = sqlite3.connect(f"file:{data.database}?mode=ro", uri=True)
    try:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"
            )
        ]
        return "\n".join(
            f"{name}: {row!r}"
            for name in names
            if name not in _ASIDE
            for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")
        )
    finally:
        connection.close()
