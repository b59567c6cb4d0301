# SPDX-License-Identifier: Apache-2.0
"""How do agents die in tests? A program that lives one life many times, each killed one system call later.

    python spool_lives.py DIRECTORY

Each life begins with a state that waits in the spool, and is killed with SIGKILL before its Nth call of the
operating system that changes anything; writes are cut into pieces, so that a life also ends in the middle of
a file. Then another life follows, unharmed, as after a reboot. One line of JSON per death says what it found
and what both have posted. It is a program of its own because it forks, and test runners have threads.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.model import canonical
from agent.model.inventory import decode_manifest
from agent.posting.identity import ensure_key
from agent.posting.spool import Spool, Spooled
from agent.state import StateDirectory
from tests.agent.given import draft

# Smaller than any file here, so that each has a middle to die in.
PIECE_BYTES = 300
CHANGING = ("open", "write", "fsync", "rename", "unlink", "mkdir")


class Death:
    """Counts the calls that change something here or elsewhere, and kills this process before the Nth."""

    def __init__(self, number: int) -> None:
        self._left = number
        for name in CHANGING:
            setattr(os, name, self._counted(getattr(os, name)))
        for name in ("sendall", "send", "recv", "do_handshake"):
            setattr(ssl.SSLSocket, name, self._counted(getattr(ssl.SSLSocket, name)))
        write = os.write
        os.write = lambda fd, data: write(fd, bytes(data)[:PIECE_BYTES])

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:  # noqa: ANN401 - any call of the operating system
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **more)

        return counted


class Life:
    """One run of an agent; what it posts is written down where the collector would see it."""

    def __init__(self, directory: Path) -> None:
        self._posts = os.open(directory / "posts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._write = os.write
        self._directory = directory

    def begin(self) -> None:
        """A first state is spooled, posted, and never answered."""
        with StateDirectory(str(self._directory / "agent")) as state:
            self._post(Spool(state, ensure_key(state)).put(draft("first", hostname="first")))

    def go_on(self) -> None:
        """What waits is posted again; a second state arrives; a third is numbered anew and arrives."""
        with StateDirectory(str(self._directory / "agent")) as state:
            spool = Spool(state, ensure_key(state))
            if (waiting := spool.load()) is not None:
                self._post(waiting)
            second = spool.put(draft("second", "more", hostname="second"))
            self._post(second)
            spool.delivered(second, spool.counts())
            third = spool.put(draft("third", hostname="third"))
            self._post(third)
            again = spool.advance(third.seq + 7)
            assert again is not None
            self._post(again)
            spool.delivered(again, spool.counts())

    def _post(self, spooled: Spooled) -> None:
        line = {"seq": spooled.seq, "manifest": canonical.digest(spooled.manifest)}
        self._write(self._posts, json.dumps(line).encode() + b"\n")


def in_child(work: Callable[[], None]) -> int:
    """The child's wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a child must never return into the parent's code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def found_in_spool(directory: Path) -> dict[str, Any]:
    """What a new life finds, with every part held against its digest."""
    with StateDirectory(str(directory / "agent")) as state:
        spool = Spool(state, ensure_key(state))
        held = spool.load()
        if held is None:
            return {"state": None, "damaged": spool.counts().damaged}
        manifest = decode_manifest(held.manifest)
        named = {
            digest
            for section in manifest.sections.values()
            for digest in (section.parts.vendor, section.parts.local)
            if digest
        }
        whole = named == held.parts.keys() and all(
            canonical.digest(data) == digest for digest, data in held.parts.items()
        )
        return {"state": manifest.host.hostname, "whole": whole, "damaged": spool.counts().damaged}


def main(root: Path) -> None:
    """Die at every call there is."""
    number = 0
    while True:
        number += 1
        directory = root / str(number)
        directory.mkdir(mode=0o700)
        life = Life(directory)
        assert in_child(life.begin) == 0

        def killed(life: Life = life, number: int = number) -> None:
            Death(number)
            life.go_on()

        status = in_child(killed)
        report: dict[str, Any] = {
            "number": number,
            "signal": os.WTERMSIG(status),
            "found": found_in_spool(directory),
        }
        assert os.WTERMSIG(status) in (0, signal.SIGKILL), "it failed by itself"
        report["again"] = in_child(life.go_on)
        report["left"] = sorted(os.listdir(directory / "agent"))
        report["posts"] = [json.loads(line) for line in (directory / "posts").read_text().splitlines()]
        print(json.dumps(report), flush=True)
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
