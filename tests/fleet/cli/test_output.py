# SPDX-License-Identifier: Apache-2.0
"""Where an answer cannot be written, that is said once; each command is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fleet.config import DataDir
from tests.fleet.cli.conftest import Town

FLEET = (sys.executable, "-c", "from fleet.cli import main; main()")
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("hosts",), ("hosts", "--format", "json")], ids=" ".join
)
def test_a_full_disk_behind_standard_output_is_said(
    town: Town, data: DataDir, words: tuple[str, ...], unbuffered: str
) -> None:
    """A report cut short must not look like success, nor like a bug."""
    env = ENVIRONMENT | {"CRYPTOFLEET_DATA": str(data.root), "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*FLEET, *words], check=False, stdout=full, stderr=subprocess.PIPE, env=env)

    assert done.returncode == 1
    assert done.stderr.decode() == "fleet: cannot write the answer: no space left on device\n"


def test_a_reader_that_has_gone_ends_it_quietly(town: Town, data: DataDir) -> None:
    """`| head` is no error to talk about."""
    reading, writing = os.pipe()
    os.close(reading)
    env = ENVIRONMENT | {"CRYPTOFLEET_DATA": str(data.root)}
    try:
        done = subprocess.run([*FLEET, "hosts"], check=False, stdout=writing, stderr=subprocess.PIPE, env=env)
    finally:
        os.close(writing)

    assert done.stderr == b""
