# SPDX-License-Identifier: Apache-2.0
"""Which files do processes hold open, on hosts made of files; test_processes_rungs.py has real ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.guard.parsing import Function, InProcess, Opened, T
from agent.host import Host
from agent.readers.file_kind import read_kind
from agent.scanners import Scan, processes
from agent.survey import descriptors
from tests.agent.fake_host import FakeHost

LIBC = "/usr/lib/libc.so.6"
CERTIFICATE_HEAD = b"-----BEGIN CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def key() -> bytes:
    """A private key in PEM."""
    command = ["openssl", "genpkey", "-algorithm", "ed25519"]
    return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout


@pytest.fixture
def web(tmp_path: Path) -> FakeHost:
    """A host on which nothing runs."""
    web = FakeHost(tmp_path)
    web.file(LIBC, b"no library of ours")
    return web


def files(scan: Scan) -> list[tuple[int, str, str]]:
    """Process, path and type of each file."""
    return [(one.pid, file.path, file.file_type) for one in scan.processes for file in one.files]


def test_a_process_that_holds_a_key_is_listed_without_any_library(web: FakeHost, key: bytes) -> None:
    """A program in Go has no library to map, and holds its key all the same."""
    web.file("/srv/id_rsa", key)
    web.process(10, libraries=[LIBC], fds=["/srv/id_rsa"])
    web.process(11, libraries=[LIBC], fds=["/var/log/x"])

    scan = processes.scan(web.host)

    assert files(scan) == [(10, "/srv/id_rsa", "private_key")]
    assert scan.processes[0].libraries == ()
    assert scan.entries == []
    assert scan.live["processes_with_crypto"] == 0


@pytest.mark.parametrize(
    ("target", "is_told"),
    [
        ("/a.pem", True), ("/a.CRT", True), ("/a.Cer", True), ("/a.key", True), ("/a.p12", True),
        ("/a.pfx", True), ("/a.jks", True), ("/a.keystore", True), ("/a.key (deleted)", True),
        ("/.pem", True),
        ("/a.pem.bak", False), ("/pem", False), ("/a.txt", False), ("socket:[1]", False),
        ("anon_inode:[eventpoll]", False), ("/a.pem/b", False),
    ],
)  # fmt: skip
def test_a_name_that_users_scripts_know_is_enough(web: FakeHost, target: str, is_told: bool) -> None:
    """Where the bytes cannot be had; what it is, nobody says then."""
    web.process(10, fds=[target])

    bare = target.removesuffix(" (deleted)")
    assert files(processes.scan(web.host)) == ([(10, bare, "unknown")] if is_told else [])


def test_a_file_is_read_once_however_many_processes_hold_it(web: FakeHost, key: bytes) -> None:
    """Two hundred workers have one key."""
    asked: list[str] = []

    class Noting(InProcess):
        def parse(
            self, function: Function[T], files: Sequence[Opened], *args: object
        ) -> list[T | errors.HostError]:
            if function == read_kind:
                asked.extend(one.path for one in files)
            return super().parse(function, files, *args)

    web.file("/srv/tls", key)
    for pid in range(10, 30):
        web.process(pid, fds=["/srv/tls", "/srv/tls"])

    scan = processes.scan(Host(str(web.root), Noting()))

    assert asked == ["/srv/tls"]
    assert len(files(scan)) == 20


def test_a_file_that_ends_its_reader_is_counted_and_told_by_its_name(web: FakeHost, key: bytes) -> None:
    """Others in the same batch are told by their content."""

    class Fragile(InProcess):
        def parse(
            self, function: Function[T], files: Sequence[Opened], *args: object
        ) -> list[T | errors.HostError]:
            answers = super().parse(function, files, *args)
            return [
                errors.CrashedError(one.path, "it was killed") if "bad" in one.path else answer
                for one, answer in zip(files, answers, strict=True)
            ]

    for name in ("bad.pem", "bad.bin", "good"):
        web.file(f"/srv/{name}", key)
    web.process(10, libraries=[LIBC], fds=["/srv/bad.pem", "/srv/bad.bin", "/srv/good"])

    scan = processes.scan(Host(str(web.root), Fragile()))

    assert files(scan) == [(10, "/srv/bad.pem", "unknown"), (10, "/srv/good", "private_key")]
    assert scan.skipped == {"crashed": 2}
    assert scan.status == "partial"


def test_files_beyond_the_budget_are_counted(
    web: FakeHost, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database with a hundred thousand files must not stop the host, nor hide a key unnoticed."""
    monkeypatch.setattr(descriptors, "_FILES_MAX", 1)
    for name in ("a", "b", "c.pem"):
        web.file(f"/srv/{name}", key)
    web.process(10, fds=["/srv/a", "/srv/b", "/srv/c.pem"])

    scan = processes.scan(web.host)

    told = dict(one[1:] for one in files(scan))
    assert sorted(told.values()).count("private_key") == 1
    assert scan.skipped == {"budget": 2}
    assert scan.status == "partial"


def test_more_files_than_fit_in_a_batch_are_all_read(web: FakeHost, key: bytes) -> None:
    """And never more of them are open than that."""
    before = len(os.listdir("/proc/self/fd"))
    most = 0

    class Counting(InProcess):
        def parse(
            self, function: Function[T], files: Sequence[Opened], *args: object
        ) -> list[T | errors.HostError]:
            nonlocal most
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
            return super().parse(function, files, *args)

    names = [f"/srv/{number:03}" for number in range(200)]
    for name in names:
        web.file(name, key)
    web.process(10, fds=names)

    scan = processes.scan(Host(str(web.root), Counting()))

    assert [path for _, path, _ in files(scan)] == names
    assert most <= 70
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    """A FIFO, a device and a directory are looked at and left alone; a link is followed to what it means."""
    fifo, file, link = tmp_path / "fifo", tmp_path / "file", tmp_path / "link"
    os.mkfifo(fifo)
    file.write_bytes(CERTIFICATE_HEAD)
    link.symlink_to(file)

    for path in (fifo, tmp_path, Path("/dev/null")):
        assert Host().open_regular(str(path)) is None
    fd = Host().open_regular(str(link))
    assert fd is not None
    assert os.read(fd, 100) == CERTIFICATE_HEAD
    os.close(fd)
    with pytest.raises(errors.VanishedError):
        Host().open_regular(str(tmp_path / "nothing"))
    # Nobody opened the FIFO for reading: who only wants to write is refused.
    with pytest.raises(OSError, match="No such device"):
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
