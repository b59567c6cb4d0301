# SPDX-License-Identifier: Apache-2.0
"""The list of processes that users' scripts read; of the commands' own tests, what only this room decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import tracer
from agent.redact import People, Printed, Truth
from agent.scanners import processes
from tests.agent.fake_host import LIBCRYPTO, LIBSSL, FakeHost


@pytest.fixture
def web(tmp_path: Path) -> FakeHost:
    """A host on which nothing runs."""
    return FakeHost(tmp_path)


def listed(web: FakeHost, meanwhile: Callable[[], object] = lambda: None) -> list[dict[str, Any]]:
    """What is listed, when something happens between the look and the list."""
    _, seen = processes.survey(web.host)
    meanwhile()
    return tracer.processes(web.host, seen, Truth())


def test_processes_are_listed_by_number_with_their_lists_sorted(web: FakeHost) -> None:
    """So that two snapshots of the same can be compared as texts."""
    for pid in (9, 100, 20):
        web.process(pid, libraries=[LIBSSL, LIBCRYPTO], fds=["/z.pem", "/a.pem", "/z.pem"])

    found = listed(web)

    assert [one["pid"] for one in found] == [9, 20, 100]
    assert found[0]["libraries"] == [LIBCRYPTO, LIBSSL]
    assert found[0]["open_crypto_files"] == ["/a.pem", "/z.pem"]


def test_a_process_without_cryptography_is_none_of_them(web: FakeHost) -> None:
    """Also when it holds a key open: a copying program uses none."""
    web.process(10, libraries=[], fds=["/a.pem"])

    assert listed(web) == []


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
def test_files_are_told_by_the_suffixes_that_users_know(web: FakeHost, target: str, is_told: bool) -> None:
    """In any case of letters, and those that have gone."""
    web.process(10, fds=[target])

    assert listed(web)[0]["open_crypto_files"] == ([target] if is_told else [])


@pytest.mark.parametrize("entry", ["stat", "status", ""])
def test_one_that_ends_between_look_and_list_is_left_out(web: FakeHost, entry: str) -> None:
    """A line without its name would be worse."""
    web.process(10)
    web.process(11)

    def end() -> None:
        place = web.root / "proc/10" / entry
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    assert [one["pid"] for one in listed(web, end)] == [11]


@pytest.mark.parametrize("entry", ["stat", "status"])
def test_one_whose_page_is_no_page_is_left_out(web: FakeHost, entry: str) -> None:
    """As one that has gone."""
    web.process(10)
    web.file(f"/proc/10/{entry}", b"nonsense")

    assert listed(web) == []


def test_a_descriptor_that_is_closed_meanwhile_hinders_no_other(web: FakeHost) -> None:
    """Programs open and close all the time."""
    web.process(10, fds=["/a.pem"])
    os.mkdir(web.place("/proc/10/fd/4"))

    assert listed(web)[0]["open_crypto_files"] == ["/a.pem"]


def test_totals_are_the_lengths_of_the_lists() -> None:
    """That is what users' dashboards have counted so far."""
    found = [
        {"libraries": ["a", "b"], "open_crypto_files": []},
        {"libraries": ["a"], "open_crypto_files": ["x"]},
    ]

    assert tracer.summary(found) == {"total_processes": 2, "total_libraries": 3, "total_files": 1}
    assert tracer.summary([]) == {"total_processes": 0, "total_libraries": 0, "total_files": 0}


def test_owners_without_a_name_are_numbers_and_people_are_hidden(web: FakeHost) -> None:
    """By the effective user."""
    for pid, uid in ((10, 0), (11, 1000), (12, 4242)):
        web.process(pid, uid=uid)
    _, seen = processes.survey(web.host)

    found = tracer.processes(web.host, seen, Printed(People.of(web.host)))

    assert [one["running_as"] for one in found] == ["root", "USER", "uid:4242"]
