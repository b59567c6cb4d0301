# SPDX-License-Identifier: Apache-2.0
"""What stands at the top of the house, and under which licence is each file?"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOMS = {"agent", "bpf", "reports", "fleet", "ansible", "tests"}
# What every project has. A new name here is a decision of the product's owner.
FURNITURE = {
    ".ci",
    ".clang-format",
    ".editorconfig",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "LICENSE-BPF",
    "LICENSE-GPL-3.0",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "build.spec",
    "pyproject.toml",
    "requirements-agent.txt",
    "requirements-dev.txt",
    "requirements-fleet.txt",
}
APACHE = "Apache-2.0"
KERNEL = "GPL-2.0-only OR BSD-2-Clause"
ANSIBLE = "GPL-3.0-or-later"
SOURCES = {".py", ".c", ".h", ".sh", ".spec"}


@pytest.fixture(scope="module")
def tracked(house: Path) -> list[PurePosixPath]:
    """Every file that git tracks here."""
    # Whoever runs the tests need not own the checkout.
    command = ["git", "-c", f"safe.directory={house}", "-C", str(house), "ls-files", "-z"]
    listed = subprocess.run(command, check=False, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [PurePosixPath(name) for name in listed.stdout.split("\0") if name and (house / name).exists()]


def is_source(path: PurePosixPath) -> bool:
    """Whether people write code in it."""
    return path.suffix in SOURCES or path.name == "Makefile" or path.parts[0] == ".ci"


def licence_of(path: PurePosixPath) -> str:
    """The licence a file must name: its room's, and for C that is tested as BPF code the one of bpf/."""
    if path.parts[0] == "bpf" or (path.parts[:2] == ("tests", "bpf") and path.suffix in {".c", ".h"}):
        return KERNEL
    return ANSIBLE if path.parts[0] == "ansible" else APACHE


def test_nothing_else_stands_at_the_top(tracked: list[PurePosixPath]) -> None:
    """The owner of the product fixed the top level; a stray file there is somebody's accident."""
    top = {path.parts[0] for path in tracked}
    assert top - ROOMS - FURNITURE == set()


def test_ansible_is_not_shadowed(tracked: list[PurePosixPath]) -> None:
    """The checkout is on its environment's path, where a package called ansible would hide Ansible's own."""
    assert PurePosixPath("ansible/__init__.py") not in tracked


def test_every_source_file_names_the_licence_of_its_room(house: Path, tracked: list[PurePosixPath]) -> None:
    """A file travels without its folder; its first lines must say what may be done with it."""
    # Given all sources, some empty on purpose
    sources = [path for path in tracked if is_source(path) and (house / path).stat().st_size]
    assert sources

    # When the header of each is read
    wrong = {}
    for path in sources:
        expected = licence_of(path)
        head = "\n".join((house / path).read_text(encoding="utf-8").splitlines()[:3])
        found = re.search(r"SPDX-License-Identifier: (.+?)(?: \*/)?$", head, re.MULTILINE)
        if found is None or found[1].strip() != expected:
            wrong[str(path)] = f"{found[1] if found else 'nothing'} instead of {expected}"

    # Then it is the one of its room
    assert wrong == {}
