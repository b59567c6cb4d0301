# SPDX-License-Identifier: Apache-2.0
"""Does the closing line of `make test` count what the runs did?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MIXED = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("in the fixture")

def test_one(): pass
def test_two(): pass
def test_three(): assert False
def test_four(broken): pass
def test_five(): pytest.skip("not here")
"""
GREEN = "def test_six(): pass"


def run(place: Path, name: str, text: str) -> Path:
    """The JUnit report of a real pytest run over one file."""
    source, report = place / f"test_{name}.py", place / f"{name}.xml"
    source.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={place}"]
    subprocess.run(
        [*command, "-c", "/dev/null", f"--junit-xml={report}", source], check=False, capture_output=True
    )
    return report


def tally(house: Path, *reports: Path) -> tuple[int, str]:
    """Exit code and output of the tally."""
    done = subprocess.run(
        [sys.executable, house / "tests" / "tally.py", *reports], check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_the_closing_line_adds_all_runs_up(house: Path, tmp_path: Path) -> None:
    """An error in a fixture is a failure too, or a broken test bed would look green."""
    # Given one run with everything in it and one green run
    mixed, green = run(tmp_path, "mixed", MIXED), run(tmp_path, "green", GREEN)

    # When they are counted together and the green one alone
    # Then the sums are right, and one failure anywhere decides
    assert tally(house, mixed, green) == (1, "3 passed, 2 failed, 1 skipped\n")
    assert tally(house, green) == (0, "1 passed, 0 failed, 0 skipped\n")


def test_a_run_that_left_no_report_counts_as_failed(house: Path, tmp_path: Path) -> None:
    """A run that died says nothing, and nothing must not be added as zero failures."""
    green = run(tmp_path, "green", GREEN)
    assert tally(house, green, tmp_path / "died.xml") == (1, "1 passed, 1 failed, 0 skipped\n")


def test_nothing_passed_is_no_success(house: Path, tmp_path: Path) -> None:
    """A selection that selects nothing must not be green."""
    empty = run(tmp_path, "empty", "")
    assert tally(house, empty) == (1, "0 passed, 0 failed, 0 skipped\n")
