# SPDX-License-Identifier: Apache-2.0
"""What does one look at a thousand processes cost, beside a small C program that looks at the same ones?

All run alternately in one go, because the machine is shared. CPU time is user and system time of the look
alone: neither the interpreter's start nor the C program's is in it. The C program knows no packages; what it
costs to ask for theirs, once for a scan and the same for ten processes, shows in a row of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from agent.host import Host
from agent.model.location import Package
from agent.packages import owners
from agent.procmap import QueryReader, Reader, TextReader
from agent.scanners import Scan, processes

HERE = Path(__file__).parent
PROCESSES = 1000
ROUNDS = 9
LIBRARIES = ("libssl.so.3", "libcrypto.so.3", "libgnutls.so.30")

PEER = "C: maps text and every fd"
QUERY = "processes by PROCMAP_QUERY"
TEXT = "processes by maps text"
WHOLE = "processes by PROCMAP_QUERY, with packages"

Row = tuple[str, str, str, str]


def compile_c(name: str, folder: Path) -> Path:
    """Build one C file of this folder; returns the program."""
    program = folder / name
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-o", program, HERE / f"{name}.c", "-ldl"], check=True, timeout=60
    )
    return program


@contextmanager
def crowd(program: Path, count: int) -> Iterator[int]:
    """So many processes with the libraries mapped, for the time of the block. Gives their parent's pid."""
    argv = [str(program), str(count), *LIBRARIES]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            if parent.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{program.name} did not start; are {', '.join(LIBRARIES)} installed?")
            yield parent.pid
        finally:
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
            # They die with it; the next measurement must not meet them.
            parent.kill()
            until = time.monotonic() + 5
            while time.monotonic() < until and any(Path(f"/proc/{pid}/exe").exists() for pid in children):
                time.sleep(0.05)


def _cpu_ms(work: Callable[[], object]) -> float:
    begin = time.process_time_ns()
    work()
    return (time.process_time_ns() - begin) / 1e6


def _no_owners(host: Host, paths: Iterable[str]) -> dict[str, Package]:
    return {}


def _scan_ms(reader: Callable[[], Reader], packages: Callable[..., dict[str, Package]]) -> float:
    """One scan by one rung of the ladder."""
    found: list[Scan] = []
    with (
        mock.patch.object(processes, "QueryReader", reader),
        mock.patch.object(processes, "owners", packages),
    ):
        cost_ms = _cpu_ms(lambda: found.append(processes.scan(Host())))
    if found[0].live["processes_with_crypto"] < PROCESSES:
        raise RuntimeError(f"it saw {found[0].live} of {PROCESSES} processes")
    return cost_ms


def _peer_ms(peer: Path) -> float:
    said = subprocess.run([peer], check=True, capture_output=True, timeout=60).stdout.split()
    if int(said[1]) < PROCESSES:
        raise RuntimeError(f"the C program saw {said[1].decode()} libraries of {PROCESSES} processes")
    return int(said[3]) / 1000


def measure() -> dict[str, list[float]]:
    """CPU milliseconds of each way, one number a round."""
    with tempfile.TemporaryDirectory() as folder:
        peer = compile_c("process_peer", Path(folder))
        ways: dict[str, Callable[[], float]] = {
            PEER: lambda: _peer_ms(peer),
            QUERY: lambda: _scan_ms(QueryReader, _no_owners),
            TEXT: lambda: _scan_ms(TextReader, _no_owners),
            WHOLE: lambda: _scan_ms(QueryReader, owners),
        }
        with crowd(compile_c("process_crowd", Path(folder)), PROCESSES):
            rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: [one[name] for one in rounds] for name in ways}


def run() -> list[Row]:
    """The rows of the table."""
    found = measure()
    rows: list[Row] = []
    for name, values in found.items():
        how = f"CPU, {PROCESSES} processes, median of {ROUNDS}, alternating"
        rows.append(
            (name, f"{statistics.median(values):.0f} ms", f"{min(values):.0f}-{max(values):.0f} ms", how)
        )
    for name in (QUERY, TEXT, WHOLE):
        ratios = [ours / theirs for ours, theirs in zip(found[name], found[PEER], strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        rows.append(
            (f"{name} / C", f"{statistics.median(ratios):.2f}", spread, "ratio of each round, median")
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print("  ".join(row))
    sys.exit(0)
