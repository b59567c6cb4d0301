# SPDX-License-Identifier: Apache-2.0
"""`make bench`: run every measurement, print one table, and keep it in RESULTS.md with date, machine and commit.

A measurement is a file bench_*.py in this folder with `def run() -> list[Row]`. Figures are ratios and counts taken
within one run: machines are shared, so no bar here fails anything.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tabulate import tabulate

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"


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
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit measured, marked when the work tree differs from it."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def main() -> int:
    """Run those asked for, else all."""
    parser = argparse.ArgumentParser(description="Measure, and keep the table.")
    parser.add_argument("names", nargs="*", help="parts of names, for example processes")
    names = parser.parse_args().names
    files = [path for path in sorted(HERE.glob("bench_*.py")) if not names or any(name in path.stem for name in names)]
    rows: list[tuple[str, str, str, str]] = []
    for path in files:
        print(f"measuring {path.stem.removeprefix('bench_')} ...", file=sys.stderr, flush=True)
        rows += load(path).run()
    table = tabulate(rows, headers=("measure", "figure", "spread", "how"), tablefmt="github")
    print(table)
    if not names:
        now = dt.datetime.now(dt.UTC)
        load_average = os.getloadavg()[0]
        RESULTS.write_text(
            f"# Measurements\n\nThe last `make bench`: {now:%Y-%m-%d %H:%M} UTC, commit {commit()}, load average {load_average:.1f} at its end.\n"
            f"Machine: {machine()}.\nShared and noisy: read ratios within this run, not absolute times against another run's.\n\n{table}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
