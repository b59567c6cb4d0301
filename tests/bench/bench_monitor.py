# SPDX-License-Identifier: Apache-2.0
"""What does watching cost: the host's processes for each call, and the agent to begin, to read and to end?

The calls run on one CPU, the agent on another one. With and without a window they alternate, and each figure
is the best of 20 chunks, so that what else the machine does counts little.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.host import Host
from agent.kernel.monitor import Window, open_window
from agent.kernel.probes.lib_load import LibLoad

ROUNDS = 3
SOURCE = Path(__file__).with_name("monitor_calls.c")
ALL = ("file_open", "lib_load", "process_exec", "process_exit")

Row = tuple[str, str, str, str]
Calls = dict[str, tuple[str, str, Path]]


def run() -> list[Row]:
    """Costs of calls without a window and with several, then those of the agent itself."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        program = place / "calls"
        subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE)], check=True)
        nothing = place / "nothing"
        subprocess.run(
            ["cc", "-static", "-x", "c", "-o", str(nothing), "-"], input=b"int main(void){}", check=True
        )
        library = place / "library.so"
        library.write_bytes(b"\x7fELF" + bytes(4092))
        pem, text = place / "a.pem", place / "a.txt"
        pem.touch()
        text.touch()
        calls: Calls = {
            "getppid": ("getppid", "2000000", text),
            "open of a name that is filtered": ("open", "100000", text),
            "open that is reported": ("open", "100000", pem),
            "mmap of memory": ("memory", "100000", text),
            "mmap of a library that was told": ("code", "100000", library),
            "start and end of a program": ("start", "2000", nothing),
        }
        rows = _costs(program, calls)
        rows += _boring(program, library)
        rows += _reading(program, pem, nothing)
    return rows + _beginning() + _ending()


def _call(program: Path, words: Sequence[str | Path]) -> float:
    done = subprocess.run(["taskset", "-c", "1", program, *words], capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def _watching(probes: Sequence[str]) -> Iterator[Window]:
    """A window that somebody reads meanwhile."""
    with open_window(Host(), probes, is_family_seen=True) as window:
        reader = threading.Thread(target=lambda: [None for _ in window.events()])
        reader.start()
        try:
            yield window
        finally:
            window.stop()
            reader.join()


def _costs(program: Path, calls: Calls) -> list[Row]:
    without: dict[str, list[float]] = {name: [] for name in calls}
    watched: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, words in calls.items():
            without[name].append(_call(program, words))
        with _watching(ALL):
            for name, words in calls.items():
                watched[name].append(_call(program, words))
    return [_row(name, without[name], watched[name], "all four probes") for name in calls]


def _boring(program: Path, library: Path) -> list[Row]:
    words = ("code", "100000", library)
    without, watched = [], []
    for _ in range(ROUNDS):
        without.append(_call(program, words))
        with open_window(Host(), ["lib_load"], is_family_seen=True) as window:
            _call(program, ("code", "100", library))
            window.stop()
            loads = [event for event in window.events() if isinstance(event, LibLoad)]
        with open_window(Host(), ["lib_load"], is_family_seen=True) as window:
            for event in loads:
                window.disregard(event.identity)
            watched.append(_call(program, words))
    return [_row("mmap of a library that is disregarded", without, watched, "lib_load alone")]


def _row(name: str, without: list[float], watched: list[float], probes: str) -> Row:
    more = [after - before for before, after in zip(without, watched, strict=True)]
    return (
        f"watched: {name}",
        f"+{statistics.median(more):.0f} ns",
        f"{min(without):.0f}..{max(without):.0f} -> {min(watched):.0f}..{max(watched):.0f}",
        f"{probes}, best of 20 chunks, median of {ROUNDS} rounds in turn",
    )


def _reading(program: Path, pem: Path, nothing: Path) -> list[Row]:
    rows = []
    for name, probes, words in (
        ("opens", ALL[:1], ("open", "60000", pem)),
        ("starts and ends", ALL[2:], ("start", "10000", nothing)),
    ):
        each = []
        for _ in range(ROUNDS):
            with open_window(Host(), probes, is_family_seen=True, ring_bytes=16 * 1024 * 1024) as window:
                _call(program, words)
                window.stop()
                begin = time.process_time()
                count = sum(1 for _ in window.events())
                each.append((time.process_time() - begin) / count * 1e6)
        rows.append(
            (f"agent, CPU for each event: {name}", f"{statistics.median(each):.1f} us",
             f"{min(each):.1f}..{max(each):.1f} us", f"read and decoded, not printed, {ROUNDS} rounds")
        )  # fmt: skip
    return rows


def _beginning() -> list[Row]:
    rows = []
    for name, probes in (("file_open", ALL[:1]), ("all four", ALL)):
        spent = []
        for _ in range(2 * ROUNDS):
            begin = time.process_time()
            window = open_window(Host(), probes)
            spent.append((time.process_time() - begin) * 1e3)
            window.close()
        rows.append(
            (f"agent, CPU to load and attach: {name}", f"{statistics.median(spent):.0f} ms",
             f"{min(spent):.0f}..{max(spent):.0f} ms", f"{2 * ROUNDS} windows")
        )  # fmt: skip
    return rows


def _ending() -> list[Row]:
    spent = []
    for _ in range(2 * ROUNDS):
        words = [sys.executable, "-m", "agent", "monitor", "--duration", "60"]
        with subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=SOURCE.parents[2], env=os.environ
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()
            time.sleep(0.3)
            begin = time.perf_counter()
            process.terminate()
            process.wait()
            spent.append((time.perf_counter() - begin) * 1e3)
    return [
        ("agent, from SIGTERM to its end: monitor", f"{statistics.median(spent):.0f} ms",
         f"{min(spent):.0f}..{max(spent):.0f} ms", f"{2 * ROUNDS} times, all four probes")
    ]  # fmt: skip
