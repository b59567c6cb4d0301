# SPDX-License-Identifier: Apache-2.0
"""Do imports point one way, and would it be noticed if they did not?

The contracts stand in pyproject.toml. A contract that matches nothing is kept for ever, so each is broken
here once, in a copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGES = ("agent", "reports", "fleet")

# By contract: files to plant, and the imports in them.
PLANTED: dict[str, dict[str, str]] = {
    "direction": {"reports/planted.py": "import fleet"},
    "agent-closed": {"agent/planted.py": "import reports"},
    "agent-light": {"agent/planted.py": "def lazily() -> None:\n    import sqlite3"},
    "model-bare": {"agent/model/planted.py": "from agent import host"},
    "reports-vocabulary": {"reports/planted.py": "from agent import host"},
    "reports-pure": {"reports/planted.py": "import socket"},
    "agent-rooms": {"agent/guard/planted.py": "from agent.printing import output"},
    "readers-bare": {"agent/readers/planted.py": "from agent.host import Host"},
    "scanners-independent": {"agent/scanners/planted.py": "from agent.scanners import other"},
    "probes-independent": {"agent/kernel/probes/planted.py": "from agent.kernel.probes import other"},
    "printers-independent": {"agent/formats/planted.py": "from agent.formats import other"},
    "sinks-independent": {"agent/sinks/planted.py": "from agent.sinks import other"},
    "formats-independent": {"reports/formats/planted.py": "from reports.formats import other"},
    "importers-independent": {"fleet/importers/planted.py": "from fleet.importers import other"},
}


def contracts(house: Path) -> dict[str, str]:
    """Names of the contracts by their ids."""
    document = tomllib.loads((house / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in document["tool"]["importlinter"]["contracts"]}


def check(place: Path) -> tuple[int, set[str]]:
    """Exit code of import-linter in a checkout or a copy, and the names of the contracts it found broken."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--cache-dir", place / ".import_linter_cache"],
        cwd=place,
        check=False,
        capture_output=True,
        text=True,
        # The copy comes before the checkout, which is on the environment's own path.
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "NO_COLOR": "1", "COLUMNS": "200"},
    )
    broken = {line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line}
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return done.returncode, broken


@pytest.fixture(scope="module")
def copy(house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and the contracts, to be spoilt."""
    place = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(house / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(house / "pyproject.toml", place)
    return place


def test_imports_point_one_way(house: Path) -> None:
    """An old agent can be judged by a new policy because seeing and judging share only words."""
    assert check(house) == (0, set())


def test_every_contract_is_tried(house: Path) -> None:
    """A new contract needs its own planted import."""
    assert contracts(house).keys() == PLANTED.keys()


@pytest.mark.parametrize("contract", sorted(PLANTED))
def test_a_planted_import_breaks_its_contract(house: Path, copy: Path, contract: str) -> None:
    """A contract that cannot be broken guards nothing."""
    # Given a copy with the forbidden import in a new file, and beside it what that file imports
    planted = []
    for name, line in PLANTED[contract].items():
        folder = (copy / name).parent
        for path, text in (
            (folder / "__init__.py", '"""A folder of plugins."""\n'),
            (folder / "other.py", '"""Another plugin."""\n'),
            (copy / name, f'"""Planted."""\n\n{line}\n'),
        ):
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                planted.append(path)

    # When the contracts are checked
    code, broken = check(copy)
    for path in planted:
        path.unlink()

    # Then this one is broken
    assert code == 1
    assert contracts(house)[contract] in broken
