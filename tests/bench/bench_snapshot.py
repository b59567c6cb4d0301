# SPDX-License-Identifier: Apache-2.0
"""What does a whole `snapshot` of the frozen file cost, with a thousand processes that use cryptography?

Every scanner, every helper process and the unpacking are in it. Memory is that of all its processes together:
the sum of their proportional set sizes (PSS, proc_pid_smaps_rollup(5)), looked at every few milliseconds, and
the largest resident size (ru_maxrss) that any one of them had.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.bench_processes import compile_c, crowd
from tests.bench.bench_startup import FROZEN, spread

PROCESSES = 1000
ROUNDS = 7
LOOK_S = 0.004

# A process begins with the peak of whoever started it (exec keeps it), so that one is small.
LAUNCHER = """
import resource, sys, time
from subprocess import run
begin = time.perf_counter()
run(sys.argv[1:], check=True)
wall_s = time.perf_counter() - begin
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall_s * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss * 1024 / 1e6)
"""

Row = tuple[str, str, str, str]


def run() -> list[Row]:
    """Wall, CPU and memory, with the crowd and, for the scale, without it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "snapshot.json"
        alone = [spent(target) for _ in range(3)]
        with crowd(compile_c("process_crowd", Path(folder)), PROCESSES):
            full = [spent(target) for _ in range(ROUNDS)]
            memory = [remembered(target) for _ in range(3)]
    how = f"frozen, every scanner, {PROCESSES} processes more"
    return [
        time_row("snapshot, wall", [one[0] for one in full], how),
        time_row("snapshot, CPU of all its processes", [one[1] for one in full], how),
        time_row("the same without them, CPU", [one[1] for one in alone], "frozen, this machine as it is"),
        size_row("snapshot, largest RSS of one process", [one[2] for one in full], how),
        size_row("snapshot, peak PSS of all its processes", memory, f"{how}; every {LOOK_S * 1000:.0f} ms"),
    ]


def spent(target: Path) -> tuple[float, float, float]:
    """Wall ms, CPU ms and the largest resident size in MB of one snapshot."""
    words = [str(FROZEN), "snapshot", "--quiet", "--output", str(target)]
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    wall_ms, cpu_ms, rss_mb = map(float, launched.stdout.split())
    return wall_ms, cpu_ms, rss_mb


def remembered(target: Path) -> float:
    """Peak of the PSS of the whole family in MB."""
    peak = 0
    with subprocess.Popen([str(FROZEN), "snapshot", "--quiet", "--output", str(target)]) as started:
        while started.poll() is None:
            peak = max(peak, sum(map(pss_bytes, family(started.pid))))
            time.sleep(LOOK_S)
    return peak / 1e6


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    members = [pid]
    for member in members:
        try:
            members += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
        except OSError:
            continue
    return members


def pss_bytes(pid: int) -> int:
    """What a process holds, pages that it shares counted in part; 0 when it has gone."""
    try:
        page = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in page.splitlines() if line.startswith("Pss:")), 0)


def time_row(what: str, values_ms: list[float], how: str) -> Row:
    """Median and spread of times."""
    return what, f"{statistics.median(values_ms):.0f} ms", spread(values_ms, " ms"), how


def size_row(what: str, values_mb: list[float], how: str) -> Row:
    """Median and spread of sizes."""
    return what, f"{statistics.median(values_mb):.1f} MB", spread(values_mb, " MB"), how
