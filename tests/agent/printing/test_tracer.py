# SPDX-License-Identifier: Apache-2.0
"""The list of processes that users' scripts read; of the commands' own tests, what only this room decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.printing import tracer
from agent.printing.selection import Selection
from agent.redact import People, Printed, Truth
from agent.survey.process import HeldFile, HeldLibrary, Process
from tests.agent.fake_host import LIBCRYPTO, LIBSSL, FakeHost


@pytest.fixture
def web(tmp_path: Path) -> FakeHost:
    """A host with alice."""
    return FakeHost(tmp_path)


def library(path: str, *, deleted: bool = False) -> HeldLibrary:
    """OpenSSL at some place."""
    return HeldLibrary(path=path, deleted=deleted, family="openssl", name="libssl")


def certificate(path: str, *, deleted: bool = False) -> HeldFile:
    """One that is held open."""
    return HeldFile(path=path, deleted=deleted, file_type="certificate", file_kind="x509")


def process(pid: int = 10, **fields: Any) -> Process:  # noqa: ANN401 - fields of the process
    """A web server."""
    given: dict[str, Any] = {"start_ticks": 1, "name": "nginx", "exe": "/usr/sbin/nginx", "uid": 0}
    return Process(pid=pid, **given | fields)


def test_the_documented_keys_come_first(web: FakeHost) -> None:
    """In their order and types; what is not there is not told."""
    (bare,) = tracer.processes([process()], web.host, Truth())

    assert list(bare.items()) == [
        ("pid", 10), ("name", "nginx"), ("exe", "/usr/sbin/nginx"), ("running_as", "root"),
        ("libraries", []), ("open_crypto_files", []), ("uid", 0),
    ]  # fmt: skip
    (inside,) = tracer.processes([process(unit="nginx.service", container="docker")], web.host, Truth())
    assert list(inside.items())[6:] == [("uid", 0), ("unit", "nginx.service"), ("container", "docker")]


def test_lists_are_lists_of_texts_sorted_and_without_doubles(web: FakeHost) -> None:
    """So that two snapshots can be compared as texts; a replaced library is marked in its name."""
    held = process(
        libraries=(library(LIBSSL), library(LIBSSL, deleted=True), library(LIBCRYPTO), library(LIBSSL)),
        files=(certificate("/z.pem"), certificate("/a.pem", deleted=True), certificate("/z.pem")),
    )

    (printed,) = tracer.processes([held], web.host, Truth())

    assert printed["libraries"] == [LIBCRYPTO, LIBSSL, f"{LIBSSL} (deleted)"]
    assert printed["open_crypto_files"] == ["/a.pem (deleted)", "/z.pem"]


def test_what_an_open_file_is_stands_beside_it(web: FakeHost) -> None:
    """One for each of the list, by the same name."""
    key = HeldFile(path="/b.key", file_type="private_key", file_kind="pkcs8")
    odd = HeldFile(path="/a.pem", file_type="unknown")

    (printed,) = tracer.processes([process(files=(key, odd))], web.host, Truth())

    assert printed["file_details"] == [
        {"file": "/a.pem", "file_type": "unknown"},
        {"file": "/b.key", "file_type": "private_key", "file_kind": "pkcs8"},
    ]


def test_the_totals_are_the_lengths_of_the_lists(web: FakeHost) -> None:
    """How many there are in all, not how many different ones: so exporters have always read them."""
    both = process(libraries=(library(LIBSSL), library(LIBCRYPTO)), files=(certificate("/a.pem"),))
    printed = tracer.processes([both, process(11, libraries=(library(LIBSSL),))], web.host, Truth())

    assert tracer.summary(printed) == {"total_processes": 2, "total_libraries": 3, "total_files": 1}
    assert tracer.summary([]) == {"total_processes": 0, "total_libraries": 0, "total_files": 0}


def test_people_are_hidden_in_every_field(web: FakeHost) -> None:
    """Two names that become one are one in the list."""
    people = People({"/home/alice": "alice", "/home/bob": "bob"}, ["alice", "bob"])
    held = process(
        exe="/home/alice/bin/x",
        uid=1000,
        libraries=(library("/home/alice/libssl.so"), library("/home/bob/libssl.so")),
        files=(certificate("/home/alice/a.pem"), certificate("/root/a.pem")),
    )

    printed = tracer.processes([held], web.host, Printed(people))

    assert "alice" not in str(printed)
    assert "bob" not in str(printed)
    assert printed[0]["running_as"] == "USER"
    assert printed[0]["libraries"] == ["/home/USER/libssl.so"]
    assert printed[0]["open_crypto_files"] == ["/home/ROOT/a.pem", "/home/USER/a.pem"]
    assert [one["file"] for one in printed[0]["file_details"]] == printed[0]["open_crypto_files"]


def test_who_was_asked_for_is_chosen_by_the_true_names() -> None:
    """Alice's key is asked for by its path; a library by any part of its own, marked or not."""
    alice = process(1, name="app", files=(certificate("/home/alice/a.pem"),))
    old = process(2, libraries=(library(LIBSSL, deleted=True), library(LIBCRYPTO)))
    found = [alice, old]

    def pids(**filters: Any) -> list[int]:  # noqa: ANN401 - those of a selection
        return [one.pid for one in tracer.selected(found, Selection(**filters))]

    assert pids() == [1, 2]
    assert pids(file="/home/alice/*") == [1]
    assert pids(file="/home/USER/*") == []
    assert pids(library="libssl") == [2]
    assert pids(library="libcrypto", name="ngin") == [2]
    assert pids(library="libssl", file="*.pem") == []
    assert pids(pid=1) == [1]
