# SPDX-License-Identifier: Apache-2.0
"""What one process has at this moment: real programs that hold files open in every way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import Host
from agent.survey.held import Looks
from tests.agent import openssl

HOLD = """
import os, ssl, sys
a, b, c, d = sys.argv[1:]
held = [open(a), open(b, "ab"), open(c), open(c, "r+b"), open(d)]
os.unlink(d)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[int, dict[str, Path]]]:
    """A process with four keys open, and OpenSSL mapped: its pid, and the keys."""
    key = openssl.make(tmp_path, "/CN=web").key
    paths = {name: tmp_path / f"{name}.key" for name in ("read", "written", "both", "deleted")}
    for path in paths.values():
        path.write_bytes(key)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *paths.values()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process.pid, paths
    process.communicate()


def test_files_are_told_with_what_they_were_opened_for(holder: tuple[int, dict[str, Path]]) -> None:
    """One file by two descriptors is open for both; a deleted one is still held."""
    pid, paths = holder
    with Looks(Host()) as looks:
        found = {held.path: (held, mode) for held, mode in looks.at(pid).files}

    assert {path: set(mode) for path, (_, mode) in found.items()} == {
        str(paths["read"]): {"read"},
        str(paths["written"]): {"write"},
        str(paths["both"]): {"read", "write"},
        str(paths["deleted"]): {"read"},
    }
    assert all((held.file_type, held.file_kind) == ("private_key", "pkcs8") for held, _ in found.values())
    assert [path for path, (held, _) in found.items() if held.deleted] == [str(paths["deleted"])]


def test_libraries_are_those_that_its_maps_page_names(holder: tuple[int, dict[str, Path]]) -> None:
    """By another route to the same answer."""
    pid, _ = holder
    with Looks(Host()) as looks:
        libraries = {library.name: library.path for library in looks.at(pid).libraries}

    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {line.split()[-1] for line in lines if "/libssl" in line or "/libcrypto" in line}
    assert {libraries["libssl"], libraries["libcrypto"]} == mapped


def test_a_process_that_has_gone_has_nothing() -> None:
    """And hides nothing."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with Looks(Host()) as looks:
        found = looks.at(gone.pid)

        assert (found.libraries, found.files) == ((), ())
        assert looks.hidden == {}
