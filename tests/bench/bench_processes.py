# SPDX-License-Identifier: Apache-2.0
"""What does one look at thousands of processes cost, beside a small C program that looks at the same ones?

Each process has three crypto libraries mapped, and a certificate and a key open. All ways run alternately in
one go, because the machine is shared. CPU time is user and system time of the look alone: neither the
interpreter's start nor the C program's is in it, but loading the BPF programs is. The C program compares
names, reads no file and knows no packages; what it costs to ask for theirs shows in rows of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from agent.disk.packages import owners
from agent.host import Host
from agent.model.location import Package
from agent.scanners import Scan, processes
from agent.survey import census
from agent.survey.procmap import QueryReader, Reader, TextReader

HERE = Path(__file__).parent
COUNTS = (1000, 3000)
ROUNDS = 9
LIBRARIES = ("libssl.so.3", "libcrypto.so.3", "libgnutls.so.30")

PEER = "C: maps text and every fd"
ITERATORS = "processes by BPF iterators"
QUERY = "processes by PROCMAP_QUERY and /proc/PID/fd"
TEXT = "processes by maps text and /proc/PID/fd"
WHOLE = "processes by BPF iterators, with packages"
# More processes than there can be: the iterators are never worth it.
NEVER = 1 << 30

Row = tuple[str, str, str, str]
Packages = Callable[..., dict[str, Package]]


def compile_c(name: str, folder: Path) -> Path:
    """Build one C file of this folder; returns the program."""
    program = folder / name
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-o", program, HERE / f"{name}.c", "-ldl"], check=True, timeout=60
    )
    return program


@contextmanager
def crowd(program: Path, count: int, files: Sequence[Path] = ()) -> Iterator[int]:
    """So many processes with the libraries mapped and files open, for the time of the block.

    Gives their parent's pid.
    """
    argv = [str(program), str(count), *LIBRARIES, *map(str, files)]
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


def _scan(count: int, reader: Callable[[], Reader], iterators_from: int, packages: Packages) -> float:
    """CPU milliseconds of one scan by one rung."""
    found: list[Scan] = []
    with (
        mock.patch.object(census, "QueryReader", reader),
        mock.patch.object(processes, "ITERATORS_FROM", iterators_from),
        mock.patch.object(processes, "owners", packages),
    ):
        cost_ms = _cpu_ms(lambda: found.append(processes.scan(Host())))
    scan = found[0]
    if iterators_from == 0 and scan.rung != "bpf-iterators":
        raise RuntimeError(f"it looked by {scan.rung}: {scan.rung_reason}")
    files = sum(len(process.files) for process in scan.processes)
    if scan.live["processes_with_crypto"] < count or files < 2 * count:
        raise RuntimeError(f"it saw {scan.live} and {files} files of {count} processes")
    return cost_ms


def _peer(peer: Path, count: int) -> float:
    said = subprocess.run([peer], check=True, capture_output=True, timeout=60).stdout.split()
    if int(said[1]) < count or int(said[2]) < 2 * count:
        raise RuntimeError(f"the C program saw {said[1].decode()} libraries of {count} processes")
    return int(said[3]) / 1000


def measure(peer: Path, count: int) -> dict[str, list[float]]:
    """CPU milliseconds of each way, one number a round."""
    ways: dict[str, Callable[[], float]] = {
        PEER: lambda: _peer(peer, count),
        ITERATORS: lambda: _scan(count, QueryReader, 0, _no_owners),
        WHOLE: lambda: _scan(count, QueryReader, 0, owners),
        QUERY: lambda: _scan(count, QueryReader, NEVER, _no_owners),
        TEXT: lambda: _scan(count, TextReader, NEVER, _no_owners),
    }
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: [one[name] for one in rounds] for name in ways}


def _peak_mb(iterators_from: int) -> float:
    """Largest resident size of an interpreter that does nothing but one scan."""
    code = (
        "from agent.host import Host\nfrom agent.scanners import processes\n"
        f"processes.ITERATORS_FROM = {iterators_from}\nprocesses.scan(Host())\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=HERE.parent.parent, timeout=60
    )
    return int(said.stdout) * 1024 / 1e6


def _held_files(folder: Path) -> list[Path]:
    """A certificate and its key."""
    made = [folder / "server.pem", folder / "server.key"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=bench", "-days", "1",
         "-out", made[0], "-keyout", made[1]],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return made


def _rows(count: int, found: dict[str, list[float]]) -> list[Row]:
    how = f"CPU, {count} processes, median of {ROUNDS}, alternating"
    rows: list[Row] = [
        (name, f"{statistics.median(values):.0f} ms", f"{min(values):.0f}-{max(values):.0f} ms", how)
        for name, values in found.items()
    ]
    for name, values in found.items():
        if name != PEER:
            ratios = [ours / theirs for ours, theirs in zip(values, found[PEER], strict=True)]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            how = f"{count} processes, ratio of each round, median"
            rows.append((f"{name} / C", f"{statistics.median(ratios):.2f}", spread, how))
    return rows


def run() -> list[Row]:
    """The rows of the table."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer, program = compile_c("process_peer", folder), compile_c("process_crowd", folder)
        files = _held_files(folder)
        for count in COUNTS:
            with crowd(program, count, files):
                rows += _rows(count, measure(peer, count))
                for way, iterators_from in ((ITERATORS, 0), (QUERY, NEVER)):
                    sizes = [_peak_mb(iterators_from) for _ in range(3)]
                    how = f"{count} processes, with packages and the interpreter, 3 runs"
                    spread = f"{min(sizes):.1f}-{max(sizes):.1f} MB"
                    rows.append((f"{way}, peak RSS", f"{statistics.median(sizes):.1f} MB", spread, how))
    return rows


if __name__ == "__main__":
    for row in run():
        print("  ".join(row))
    sys.exit(0)
