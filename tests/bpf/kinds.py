# SPDX-License-Identifier: Apache-2.0
"""What types do the fixtures of these tests have?"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.kernel.monitor import Window
from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import LibLoad
from agent.kernel.probes.process_exec import ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.kernel.source import ProbeStats


class Seen(NamedTuple):
    """What a window saw, and its account by probe."""

    events: list[Event]
    stats: dict[str, ProbeStats]

    def opens(self, file: str | Path) -> list[FileOpen]:
        """Opens of one file."""
        return [event for event in self.events if isinstance(event, FileOpen) and event.file == str(file)]

    def loads(self, file: str | Path) -> list[LibLoad]:
        """Loads of one file."""
        return [event for event in self.events if isinstance(event, LibLoad) and event.library == str(file)]

    def execs(self, exe: str | Path) -> list[ProcessExec]:
        """Starts of one program."""
        return [event for event in self.events if isinstance(event, ProcessExec) and event.exe == str(exe)]

    def exits(self, exe: str | Path) -> list[ProcessExit]:
        """Ends of processes that ran one program."""
        return [event for event in self.events if isinstance(event, ProcessExit) and event.exe == str(exe)]


class Watch(Protocol):
    """Do something while a window of these probes is open; all of them where none is named."""

    def __call__(
        self,
        action: Callable[[Window], object],
        *probes: str,
        pid: int | None = None,
        is_following: bool = False,
        is_family_seen: bool = True,
        ring_bytes: int | None = None,
    ) -> Seen: ...


class Observe(Protocol):
    """Do something while a window is open; returns the file opens seen and the account."""

    def __call__(
        self, action: Callable[[], object], *, is_folding: bool = False, ring_bytes: int | None = None
    ) -> tuple[list[FileOpen], ProbeStats]: ...


class Opener(Protocol):
    """Run opener.c."""

    def __call__(
        self,
        way: str,
        count: int,
        file: str | bytes | Path,
        directory: Path | None = None,
        *,
        cwd: Path | None = None,
    ) -> None: ...


class Doer(Protocol):
    """Run doer.c; its way of ending is returned."""

    def __call__(
        self, *words: str | bytes | Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


Compile = Callable[[Path, Sequence[str]], Path]
"""(what to make, arguments of cc) -> what was made."""
