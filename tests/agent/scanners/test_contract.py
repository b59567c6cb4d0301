# SPDX-License-Identifier: Apache-2.0
"""What every scanner must keep to, run on every scanner found."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from agent import discover, scanners
from agent.host import Host
from agent.model.inventory import decode_part, encode_part
from agent.scanners import Scan, Spec

FOUND = discover.plugins(scanners)


def test_there_are_scanners() -> None:
    """A contract checked on nothing would be green."""
    assert {"certificates", "host", "libraries", "processes"} <= set(FOUND)


@pytest.fixture(params=list(FOUND.values()), ids=list(FOUND))
def scanner(request: pytest.FixtureRequest) -> ModuleType:
    """Each scanner in turn."""
    found: ModuleType = request.param
    return found


def test_a_scanner_says_what_it_is(scanner: ModuleType) -> None:
    """The first sentence of its docstring is its help; the SPEC is what operators grant by."""
    assert isinstance(scanner.SPEC, Spec)
    assert scanner.SPEC.detector >= 1
    assert scanner.SPEC.reads
    assert discover.help_text(scanner).rstrip().endswith(("?", "."))


def test_a_scanner_survives_an_empty_host(scanner: ModuleType, tmp_path: Path) -> None:
    """A host without anything in it is a host; what is absent is said, not guessed."""
    scan = scanner.scan(Host(str(tmp_path)))

    assert isinstance(scan, Scan)
    assert encode_part(scan.entries)


def test_two_scans_of_an_unchanged_host_are_the_same_bytes(scanner: ModuleType) -> None:
    """State sections only: a sampled one says what runs, and other programs run here."""
    if scanner.SPEC.sampled:
        pytest.skip("sampled: what is in use may change between two looks")
    host = Host()

    one, other = (encode_part(scanner.scan(host).entries) for _ in range(2))

    assert one == other
    assert decode_part(one)


def test_a_scanner_writes_nothing_and_keeps_nothing_open(scanner: ModuleType, tmp_path: Path) -> None:
    """The agent never harms its host; a leaked descriptor per scan would."""
    host = Host(str(tmp_path))
    scanner.scan(host)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        scanner.scan(host)

    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
