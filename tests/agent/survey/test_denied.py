# SPDX-License-Identifier: Apache-2.0
"""Files that one process denies are asked of the next, and counted once where nobody shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import errors
from agent.host import Host
from agent.scanners import Scan, processes
from agent.survey.denied import DeniedFiles
from tests.agent.fake_host import LIBCRYPTO, FakeHost

SHUT = range(10, 40)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Processes of another user: their files and roots are denied. What was tried to be opened."""
    tried: list[str] = []
    open_regular, read_link = Host.open_regular, Host.read_link
    shut = tuple(f"/proc/{pid}/" for pid in SHUT)

    def opened(host: Host, path: str) -> int | None:
        tried.append(path)
        if path.startswith(shut):
            raise errors.DeniedError(path, "not permitted")
        return open_regular(host, path)

    def link(host: Host, path: str) -> str:
        if path.startswith(shut) and path.endswith("/root"):
            raise errors.DeniedError(path, "not permitted")
        return read_link(host, path)

    monkeypatch.setattr(Host, "open_regular", opened)
    monkeypatch.setattr(Host, "read_link", link)
    return tried


def test_what_one_process_denies_the_next_shows(tmp_path: Path, asked: list[str]) -> None:
    """A library that thirty processes of another user map first is still found in the one that is ours."""
    web = FakeHost(tmp_path)
    for pid in (*SHUT, 50):
        web.process(pid, libraries=[LIBCRYPTO], fds=["/srv/a.pem"])

    scan = processes.scan(web.host)

    assert [entry.where.path for entry in scan.entries] == [LIBCRYPTO]
    assert [held.path for one in scan.processes if one.pid == 50 for held in one.libraries] == [LIBCRYPTO]
    assert not [one for one in scan.examples if LIBCRYPTO in one]
    # No process but the first is tried in vain.
    assert not [path for path in asked if path.startswith("/proc/11/map_files")]


def test_what_nobody_shows_is_counted_once(tmp_path: Path, asked: list[str]) -> None:
    """Thirty processes with one library are one library that was not looked at."""
    web = FakeHost(tmp_path)
    for pid in SHUT:
        web.process(pid, libraries=[LIBCRYPTO])

    scan = processes.scan(web.host)

    assert scan.entries == []
    # Each process is denied as such, and the library once.
    assert scan.skipped["denied"] == len(SHUT) + 1
    assert scan.status == "partial"
    assert len(asked) < 4


def test_a_file_of_open_processes_is_tried_a_few_times(tmp_path: Path) -> None:
    """Where the file's own mode denies it, a thousand processes do not make a thousand tries."""
    web = FakeHost(tmp_path)
    web.process(10)
    scan = Scan()
    files: DeniedFiles[str] = DeniedFiles(web.host, scan.skip)

    assert files.through("key", 10) is None
    answers = [files.add("key", "/a", f"place {number}") for number in range(8)]
    files.settle()

    assert {place for place, _ in answers} == {"place 0"}
    assert [is_last for _, is_last in answers] == [False] * 7 + [True]
    assert len(files) == 0
    assert scan.skipped == {"denied": 1}
    assert scan.examples == ["denied: /a"]


def test_a_file_is_not_taken_by_another_name(tmp_path: Path) -> None:
    """Of two links to one file each is a use of its own."""
    files: DeniedFiles[str] = DeniedFiles(FakeHost(tmp_path).host, Scan().skip)
    files.add("key", "/a", "place")

    assert files.take("key", "/b") is None
    assert files.take("key", "/a") == "place"
    assert files.take("key") is None
