# SPDX-License-Identifier: Apache-2.0
"""What does the frozen agent cost a host as a service, between two rounds?

Memory is the sum of the resident sizes of all its processes, the one that unpacked it included; what two of
them share is counted twice. CPU is what the scheduler accounts to them (/proc/PID/schedstat), in nanoseconds.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.state import StateDirectory
from tests.agent.given import enrolled
from tests.bench.bench_snapshot import family
from tests.bench.bench_startup import FROZEN

# Longer than the loop's longest pause, so that it wakes in it.
IDLE_S = 90
# A round of this machine takes a second or two.
ROUND_S_MAX = 120

Row = tuple[str, str, str, str]


def run() -> list[Row]:
    """Memory, CPU and how often it wakes, after one whole round."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as pids:
        sizes_kb = [status(pid, "VmRSS") for pid in pids]
        cpu_ns, wakes = spent(pids)
        begin = time.monotonic()
        time.sleep(IDLE_S)
        idle_s = time.monotonic() - begin
        cpu_ns, wakes = spent(pids)[0] - cpu_ns, spent(pids)[1] - wakes
    each = " + ".join(f"{kb * 1024 / 1e6:.1f}" for kb in sizes_kb)
    how = f"frozen `run`, {idle_s:.0f} s after a round, one machine, no watchdog"
    return [
        ("idle service, RSS of all its processes", f"{sum(sizes_kb) * 1024 / 1e6:.1f} MB", each, how),
        ("idle service, CPU", f"{cpu_ns / idle_s / 1e7:.5f} % of a core", f"{cpu_ns / 1e6:.2f} ms", how),
        ("idle service, wake-ups", f"{wakes / idle_s * 60:.1f} a minute", str(wakes), how),
    ]


@contextmanager
def service(folder: Path) -> Iterator[list[int]]:
    """Its processes, once a round has ended and its processes with it."""
    with StateDirectory(str(folder / "state")) as state:
        enrolled(state, "https://127.0.0.1:1", b"")
    out, configured = folder / "out.json", folder / "agent.toml"
    configured.write_text(f'sinks = ["file"]\n[sink.file]\npath = "{out}"\n')
    words = [str(FROZEN), "run", f"--state-dir={folder / 'state'}", f"--config={configured}"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as started:
        try:
            end = time.monotonic() + ROUND_S_MAX
            while not out.exists() or len(pids := family(started.pid)) > 2:
                if started.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the service does not finish a round")
                time.sleep(0.1)
            yield pids
        finally:
            started.terminate()


def status(pid: int, field: str) -> int:
    """A number of /proc/PID/status."""
    page = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in page.splitlines() if line.startswith(f"{field}:"))


def spent(pids: list[int]) -> tuple[int, int]:
    """Nanoseconds on a CPU, and how often they began to wait."""
    cpu_ns = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)
    return cpu_ns, sum(status(pid, "voluntary_ctxt_switches") for pid in pids)
