# SPDX-License-Identifier: Apache-2.0
"""What does starting the frozen file cost, apart from all that it then does?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

FROZEN = Path(__file__).resolve().parents[2] / "dist/fleet-agent"
ROUNDS = 11

Row = tuple[str, str, str, str]


def run() -> list[Row]:
    """Wall and CPU time of `version`, frozen and from source in turn, and the size of the file."""
    frozen: list[tuple[float, float]] = []
    source: list[tuple[float, float]] = []
    for number in range(ROUNDS + 1):
        pair = timed([str(FROZEN), "version"]), timed([sys.executable, "-m", "agent", "version"])
        # The first round fills the page cache and is not counted.
        if number:
            frozen.append(pair[0])
            source.append(pair[1])
    ratios = [one[0] / other[0] for one, other in zip(frozen, source, strict=True)]
    size_mb = FROZEN.stat().st_size / 1e6
    return [
        row("frozen agent, `version`", frozen, f"{ROUNDS} runs, wall; CPU in the spread column"),
        row("the same from source", source, "in turn with it"),
        ("frozen / source", f"{statistics.median(ratios):.1f}x", spread(ratios, "x"), "pair by pair, wall"),
        ("frozen agent, size", f"{size_mb:.1f} MB", "", "dist/fleet-agent"),
    ]


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one run, its children included."""
    before = os.times()
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - begin
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s


def row(what: str, runs: list[tuple[float, float]], how: str) -> Row:
    """The median of the walls, and their spread."""
    walls = [wall * 1000 for wall, _ in runs]
    cpu = statistics.median(cpu * 1000 for _, cpu in runs)
    return (what, f"{statistics.median(walls):.0f} ms", f"{spread(walls, ' ms')}; CPU {cpu:.0f} ms", how)


def spread(values: list[float], unit: str) -> str:
    """Smallest and largest."""
    digits = 1 if unit == "x" else 0
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}{unit}"
