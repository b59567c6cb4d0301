# SPDX-License-Identifier: Apache-2.0
"""What types do the fixtures of these tests have?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.kernel.probes.file_open import FileOpen
from agent.kernel.source import ProbeStats


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
