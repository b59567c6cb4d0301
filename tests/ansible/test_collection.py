# SPDX-License-Identifier: Apache-2.0
"""Does the collection say and carry what the rest of the house does?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import agent

UNIT = "fleet-agent.service"


def test_the_role_carries_the_agents_own_unit(house: Path) -> None:
    """A collection is installed without the checkout, so it has a copy; two that differ are two truths."""
    copy = house / "ansible/roles/agent/files" / UNIT
    assert copy.read_bytes() == (house / "agent/packaging" / UNIT).read_bytes()
    assert not copy.is_symlink()


def test_the_collection_carries_its_licence(house: Path) -> None:
    """It is distributed alone, under another licence than the product."""
    licence = (house / "ansible/LICENSE").read_bytes()
    assert licence == (house / "LICENSE-GPL-3.0").read_bytes()
    assert b"GNU GENERAL PUBLIC LICENSE" in licence


def test_the_collection_has_the_products_version(house: Path) -> None:
    """Its role installs this agent, by this agent's options."""
    found = re.search(r"^version: (.+)$", (house / "ansible/galaxy.yml").read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == agent.__version__


def test_ansible_itself_is_not_shadowed_by_the_room(house: Path) -> None:
    """The checkout is on the path of its environment, and a directory in it has Ansible's name."""
    question = "import ansible; print(ansible.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", question], cwd=house, capture_output=True, text=True, check=True
    ).stdout
    assert Path(answer.strip()).parent != house / "ansible"
    assert answer.strip().endswith("/ansible/__init__.py")
