# SPDX-License-Identifier: Apache-2.0
"""The README's session, run on the demo's hosts, so that it stays true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab import demo
from tests.lab.fixtures import up_or_skip
from tests.lab.fleet import FLEET, Fleet

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]


class Step(NamedTuple):
    """A command of the session, and the lines that its output must have in this order."""

    command: str
    lines: list[str]


def steps(readme: str) -> list[Step]:
    """The steps of every console block."""
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].lines.append(line)
    return found


def pattern(line: str) -> re.Pattern[str]:
    """What a line of the README stands for: `...` is anything, and runs of spaces are any run of them."""
    words = [re.escape(part) for part in re.split(r"(?:\.\.\.)+", " ".join(line.split()))]
    return re.compile(".*".join(words).replace(r"\ ", r"\s+"))


def is_shown(lines: list[str], printed: list[str]) -> str | None:
    """None when the lines come in this order, else the first that does not. `...` is any number of lines."""
    at, may_skip = 0, False
    for line in lines:
        if line.strip() == "...":
            may_skip = True
            continue
        wanted = pattern(line)
        last = len(printed) if may_skip else at + 1
        match = next((i for i in range(at, min(last, len(printed))) if wanted.search(printed[i])), None)
        if match is None:
            return line
        at, may_skip = match + 1, False
    return None if may_skip or at == len(printed) else f"(nothing more after line {at})"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path) -> Iterator[Fleet]:
    """The demo, as it stands when it ends."""
    with up_or_skip(demo.hosts()) as lab:
        fleet = Fleet(lab, tmp_path_factory.mktemp("readme") / "data", frozen_agent)
        demo.begin(fleet)
        demo.change(fleet)
        yield fleet


def test_the_session_of_the_readme_is_true(fleet: Fleet, house: Path, frozen_agent: Path) -> None:
    """Every command works, and prints what the README says."""
    session = steps((house / "README.md").read_text())
    programs = {"fleet": str(FLEET), "fleet-agent": str(frozen_agent)}
    wrong = []
    for step in session:
        words = shlex.split(step.command)
        done = subprocess.run(
            [programs[words[0]], *words[1:]],
            env={**os.environ, "CRYPTOFLEET_DATA": str(fleet.data)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if words[1] == "monitor" and done.returncode == 5:
            # Nothing could be attached here; the agent's own reason is what the kernel tests show.
            continue
        if done.returncode or (line := is_shown(step.lines, done.stdout.splitlines())) is not None:
            wrong.append(
                (step.command, done.returncode, line if not done.returncode else done.stderr, done.stdout)
            )

    assert len(session) >= 8
    assert wrong == []


@pytest.mark.parametrize(
    ("lines", "printed", "is_true"),
    [
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "d"], ["a", "b", "c", "d"], False),
        (["a ... c"], ["a   b   c"], True),
        (["...", "b", "..."], ["a", "c"], False),
        (["a"], ["a", "b"], False),
    ],
)
def test_the_comparison_can_fail(lines: list[str], printed: list[str], is_true: bool) -> None:
    """A pattern that fits everything would keep no README true."""
    assert (is_shown(lines, printed) is None) == is_true
