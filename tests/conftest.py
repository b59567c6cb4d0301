# SPDX-License-Identifier: Apache-2.0
"""Which rules hold for every test here?

A test marked `root` is skipped, with that reason, by anyone else. A test that takes `frozen_agent` is marked
`frozen`, so that `make test` runs it after the build. Property tests draw the same examples on every run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

HOUSE = Path(__file__).resolve().parent.parent

# No deadline, because the machine is shared and a test asserts no time. Derandomised, because a run must be
# repeatable; `pytest --hypothesis-profile=default` goes looking for new examples.
settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn what a test asks for into marks: `frozen` for its fixture, a skip for missing privilege."""
    not_root = pytest.mark.skip(reason=f"needs root, this is uid {os.geteuid()}")
    for item in items:
        if "frozen_agent" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.frozen)
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(not_root)


@pytest.fixture(scope="session", autouse=True)
def _own_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Scans of this test run wait for one another, and not for those of others on this machine."""
    os.environ["CRYPTOFLEET_RUN"] = str(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def house() -> Path:
    """The root of this checkout."""
    return HOUSE


@pytest.fixture(scope="session")
def frozen_agent(house: Path) -> Path:
    """The agent in one file, as `make agent` built it.

    That it is not built is a failure: a skip here would hide every such test.
    """
    path = house / "dist" / "fleet-agent"
    if not path.is_file():
        pytest.fail(f"{path} is not built; run: make agent")
    return path
