# SPDX-License-Identifier: Apache-2.0
"""Which collector do the tests of this folder talk to? One per module, real and over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet.config import DataDir
from tests.fleet.running import Running, running
from tests.fleet.sender import Sender


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """A data directory that is not there yet."""
    return DataDir(tmp_path / "collector")


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running collector, shared by the tests of a module."""
    with running(DataDir(tmp_path_factory.mktemp("fleet") / "collector")) as found:
        yield found


@pytest.fixture(scope="module")
def client(collector: Running) -> Iterator[httpx.Client]:
    """A connection to it."""
    with collector.client() as found:
        yield found


@pytest.fixture
def sender(collector: Running, client: httpx.Client) -> Sender:
    """A host enrolled there."""
    return collector.enrolled(client)
