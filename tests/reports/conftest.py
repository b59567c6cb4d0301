# SPDX-License-Identifier: Apache-2.0
"""What tests of the room that judges share."""

from __future__ import annotations

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
