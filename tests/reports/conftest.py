# SPDX-License-Identifier: Apache-2.0
"""What tests of the room that judges share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reports import algorithms
from reports.algorithms import AlgorithmTable
from reports.policy import Policy, shipped
from tests.reports.samples import Fleet


@pytest.fixture
def fleet() -> Fleet:
    """An empty fleet."""
    return Fleet()


@pytest.fixture(scope="session")
def table() -> AlgorithmTable:
    """The algorithm table that ships."""
    return algorithms.shipped()


@pytest.fixture(scope="session")
def hygiene(table: AlgorithmTable) -> Policy:
    """The policy that ships."""
    return shipped("hygiene", table)


class Golden:
    """Whole outputs, kept as files that a person can read.

    One that is not there, or that CRYPTOFLEET_GOLDEN=write asks for anew, is written and the test fails, so
    that somebody
    looks at it before it is believed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, name: str, text: str) -> None:
        """Assert that a text is the golden of that name, byte for byte."""
        path = self.folder / name
        if os.environ.get("CRYPTOFLEET_GOLDEN") == "write" or not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
            pytest.fail(f"{path} was written; read it, then run again")
        assert path.read_bytes().decode() == text


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Goldens beside the test."""
    return Golden(request.path.parent / "golden")
