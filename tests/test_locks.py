# SPDX-License-Identifier: Apache-2.0
"""Do the three requirements files pin everything by content, and the agent's nothing of the server's?"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

LOCKS = ("agent", "fleet", "dev")
# A host must not carry what only the collector, an operator or a developer needs.
NOT_FOR_HOSTS = {
    "bcrypt",
    "click",
    "jinja2",
    "litestar",
    "paramiko",
    "pyelftools",
    "pyinstaller",
    "pytest",
    "rich",
    "sqlalchemy",
    "sqlite-utils",
    "structlog",
    "tabulate",
    "uvicorn",
}


def read_lock(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes by name of one requirements file."""
    pins: dict[str, tuple[str, set[str]]] = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        match = re.fullmatch(
            r"([a-z0-9-]+)==(\S+)(?: ;[^-]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)", entry.rstrip()
        )
        assert match, f"{path.name}: not a pinned, hashed requirement: {entry[:100]}"
        assert match[1] not in pins, f"{path.name}: {match[1]} is there twice"
        pins[match[1]] = match[2], set(match[3].split())
    return pins


def names(requirements: list[str]) -> set[str]:
    """The names in a list of pyproject.toml, extras of our own left out."""
    found = {
        re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-") for requirement in requirements
    }
    return found - {"cryptofleet"}


@pytest.fixture(scope="module")
def locks(house: Path) -> dict[str, dict[str, tuple[str, set[str]]]]:
    """The three locks by audience."""
    return {audience: read_lock(house / f"requirements-{audience}.txt") for audience in LOCKS}


@pytest.mark.parametrize("audience", LOCKS)
def test_a_lock_names_no_place(house: Path, audience: str) -> None:
    """Where packages come from is the installer's choice; what they are is ours."""
    text = (house / f"requirements-{audience}.txt").read_text()
    assert not re.search(r"://|\bfile:|--index|--extra-index|--find-links|^-|^/|@", text, re.MULTILINE)


def test_the_agents_lock_holds_nothing_of_the_servers(
    locks: dict[str, dict[str, tuple[str, set[str]]]],
) -> None:
    """What is in it goes to every host."""
    assert locks["agent"].keys() & NOT_FOR_HOSTS == set()


def test_a_larger_lock_contains_the_smaller_one(locks: dict[str, dict[str, tuple[str, set[str]]]]) -> None:
    """Tests must run against the very files that hosts and collectors get."""
    for smaller, larger in (("agent", "fleet"), ("fleet", "dev")):
        assert locks[smaller].items() <= locks[larger].items()


def test_what_pyproject_asks_for_is_locked(
    house: Path, locks: dict[str, dict[str, tuple[str, set[str]]]]
) -> None:
    """A dependency that was added without `make lock` would be missing in the next fresh environment."""
    document = tomllib.loads((house / "pyproject.toml").read_text())
    project = document["project"]
    assert names(project["dependencies"]) <= locks["agent"].keys()
    assert names(project["optional-dependencies"]["fleet"]) <= locks["fleet"].keys()
    assert names(project["optional-dependencies"]["dev"]) <= locks["dev"].keys()
    # The build backend too: `make venv` builds without isolation.
    assert names(document["build-system"]["requires"]) <= locks["dev"].keys()
