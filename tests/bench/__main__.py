# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what does it cost? Every measurement in one table, kept in RESULTS.md with its machine.

A measurement is a file bench_*.py in this folder with `def run() -> list[Row]`. Figures are ratios and counts
taken within one run: machines are shared, so no bar here fails anything.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tabulate import tabulate

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"

Row = tuple[str, str, str, str]
"""What was measured, the figure, its spread over the runs, and how it was taken."""


def load(path: Path) -> ModuleType:
    """A measurement's module, by file: tests are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def machine() -> str:
    """Processor, cores, memory, kernel: what a figure depends on."""
    page = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)$", page, re.MULTILINE)
    cpu = found[1] if found else platform.machine()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel, python = platform.release(), platform.python_version()
    return f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {kernel}, Python {python}"


def commit() -> str:
    """The commit measured, marked when the work tree differs from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    """Run those asked for, else all."""
    parser = argparse.ArgumentParser(description="Measure, and keep the table.")
    parser.add_argument("names", nargs="*", help="parts of names, for example processes")
    names = parser.parse_args().names
    measured = commit()
    rows: list[Row] = []
    for path in sorted(HERE.glob("bench_*.py")):
        if names and not any(name in path.stem for name in names):
            continue
        print(f"measuring {path.stem.removeprefix('bench_')} ...", file=sys.stderr, flush=True)
        rows += load(path).run()
    table = tabulate(
        rows, headers=("measure", "figure", "spread", "how"), tablefmt="github", disable_numparse=True
    )
    print(table)
    if not names:
        now, load1 = dt.datetime.now(dt.UTC), os.getloadavg()[0]
        RESULTS.write_text(
            f"# Measurements\n\n"
            f"The last `make bench`: {now:%Y-%m-%d %H:%M} UTC, commit {measured}, load {load1:.1f}.\n"
            f"Machine: {machine()}.\n"
            f"Shared and noisy: compare ratios within this run, not times with another.\n\n{table}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
