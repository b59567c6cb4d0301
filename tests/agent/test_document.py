# SPDX-License-Identifier: Apache-2.0
"""The same host is the same bytes, whatever order it shows its files in and however it came to be."""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agent import document, errors, run
from agent.document import Draft, Outcome
from agent.host import Host
from agent.model import canonical, schema
from agent.model.inventory import decode_manifest, decode_part, decode_sealed
from agent.redact import People, Printed, Pseudonyms, Redaction, Truth
from agent.scanners import Scan, Spec
from tests.agent.fake_host import FakeHost
from tests.agent.host_plans import Item, build, plans

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))


def look(host: FakeHost, redaction: Redaction | None = None) -> Draft:
    """What all scanners find on it, as a document."""
    outcomes = run.run_scanners(host.host, run.choose(None))
    return document.compose(host.host, outcomes, redaction or Printed(People.of(host.host)))


def whole(draft: Draft) -> bytes:
    """The whole document, moments apart."""
    draft.collected_at = canonical.timestamp(0)
    return canonical.encode(draft.sealed(canonical.encode(draft.manifest())))


class ShuffledListing:
    """What os.scandir gives, in another order."""

    def __init__(self, listing: Any, order: random.Random) -> None:  # noqa: ANN401 - its iterator has no name
        self._listing = listing
        self._order = order

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        entries = list(self._listing)
        self._order.shuffle(entries)
        return iter(entries)

    def __exit__(self, *_failure: object) -> None:
        self._listing.close()


@contextlib.contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Directories list their names in an order that no file system promises."""
    order = random.Random(seed)
    listdir, scandir = os.listdir, os.scandir

    def list_shuffled(path: Any = ".") -> list[Any]:  # noqa: ANN401 - str, bytes or descriptor
        names = listdir(path)
        order.shuffle(names)
        return names

    with (
        mock.patch("os.listdir", list_shuffled),
        mock.patch("os.scandir", lambda path=".": ShuffledListing(scandir(path), order)),
    ):
        yield


@contextlib.contextmanager
def made(plan: tuple[Item, ...]) -> Iterator[FakeHost]:
    """The host of a plan, and nothing of it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield build(Path(folder), plan)


@given(plan=plans, seed=st.integers(0, 2**32))
@examples(max_examples=30)
def test_the_same_host_is_the_same_bytes_in_any_order_of_its_directories(
    plan: tuple[Item, ...], seed: int
) -> None:
    """No order of a file system shows."""
    with made(plan) as host:
        first = whole(look(host))
        with shuffled(seed):
            second = whole(look(host))

    assert first == second


@given(plan=plans, seed=st.integers(0, 2**32))
@examples(max_examples=30)
def test_equal_hosts_that_came_to_be_differently_have_equal_digests(
    plan: tuple[Item, ...], seed: int
) -> None:
    """Inodes, times and the order of making are no content."""
    again = list(plan)
    random.Random(seed).shuffle(again)

    with made(plan) as one, made(tuple(again)) as other:
        assert look(one).sections == look(other).sections
        assert look(one).parts == look(other).parts


@given(plan=plans)
@examples(max_examples=30)
def test_whatever_is_on_a_host_the_document_is_one_that_every_reader_takes(plan: tuple[Item, ...]) -> None:
    """By our own readers and by the published schema, people hidden or not."""
    with made(plan) as host:
        people = People.of(host.host)
        for redaction in (Truth(), Printed(people), Pseudonyms(people, b"k" * 32)):
            draft = look(host, redaction)
            data = whole(draft)
            sealed = decode_sealed(data)
            manifest = decode_manifest(bytes(sealed.manifest))
            assert {digest for state in manifest.sections.values() for digest in digests(state.parts)} == set(
                sealed.parts
            )
            for digest, part in sealed.parts.items():
                assert canonical.digest(bytes(part)) == digest
                assert decode_part(bytes(part))
            assert list(VALIDATOR.iter_errors(json.loads(data))) == []
            assert {state.status for state in manifest.sections.values()} <= {"complete", "partial", "absent"}
            if redaction.name("alice") != "alice":
                assert b"alice" not in data
                assert b"/home/bob/" not in data


def digests(parts: object) -> list[str]:
    """Those that a section names."""
    return [digest for digest in (getattr(parts, "vendor", None), getattr(parts, "local", None)) if digest]


# -- words and identity --------------------------------------------------------------------------------------


def outcome(scan: Scan | None = None, failure: str | None = None) -> dict[str, Outcome]:
    """One scanner's."""
    return {"x": Outcome(spec=Spec(detector=1, reads=()), scan=scan, failure=failure)}


@pytest.mark.parametrize("words", ["cannot read /srv/j\udcf6rg: denied", "\ud800", "\x00\x1b[31m"])
def test_words_that_are_no_text_end_no_run(tmp_path: Path, words: str) -> None:
    """Errors quote paths, and a path is bytes."""
    draft = document.compose(Host(str(tmp_path)), outcome(failure=words), Truth())
    rung = Scan(rung="text", rung_reason=words)
    draft_rung = document.compose(Host(str(tmp_path)), outcome(rung), Truth())

    for one in (draft, draft_rung):
        assert decode_manifest(canonical.encode(one.manifest())).sections


def test_people_are_hidden_in_words_too(tmp_path: Path) -> None:
    """A failed section says what it failed on."""
    alice = Printed(People({"/home/alice": "alice"}, {"alice"}))

    draft = document.compose(Host(str(tmp_path)), outcome(failure="cannot read /home/alice/x: denied"), alice)

    assert draft.sections["x"].reason == "cannot read /home/USER/x: denied"


@pytest.mark.parametrize(
    "page",
    [b"", b"\xff\xfe\x00", b"PRETTY_NAME=", b'PRETTY_NAME="', b"=\n==\n", b"\x1b[31m" * 100, b"\n" * 8000],
)
def test_an_os_release_of_garbage_names_no_system(tmp_path: Path, page: bytes) -> None:
    """The host is one all the same."""
    host = FakeHost(tmp_path)
    host.file("/etc/os-release", page)

    draft = look(host)

    assert draft.host.os is None
    assert decode_manifest(canonical.encode(draft.manifest())).host.hostname == "web1"


@pytest.mark.parametrize("path", ["/etc/os-release", "/etc/machine-id", "/proc/sys/kernel/hostname"])
def test_a_page_that_is_too_long_is_no_answer(tmp_path: Path, path: str) -> None:
    """What fills one line must not fill the manifest, or the collector refuses the host."""
    for filling in (b"\xff" * 8000, b"\xff" * 500_000, b"x" * 500_000, b"x" * 20_000_000):
        page = b"PRETTY_NAME=" + filling
        host = FakeHost(tmp_path)
        host.file(path, page)
        draft = document.compose(host.host, {}, Truth())
        assert decode_manifest(canonical.encode(draft.manifest())).host.kind == "agent"
        assert "x" * 9000 not in repr(draft.host)


def test_a_machine_id_is_never_told_itself(tmp_path: Path) -> None:
    """machine-id(5): it is confidential."""
    host = FakeHost(tmp_path)
    page = whole(look(host))

    assert b"0123456789abcdef0123456789abcdef" not in page
    assert document.machine_id(host.host) is not None
    host.file("/etc/machine-id", b"\n")
    assert document.machine_id(host.host) is None


def test_a_host_that_is_a_directory_has_no_machine(tmp_path: Path) -> None:
    """What this machine is says nothing of the copy of another."""
    assert look(FakeHost(tmp_path)).host.arch is None
    assert document.compose(Host(), {}, Truth()).host.arch == os.uname().machine


def test_a_scanner_that_tells_one_key_twice_loses_neither(tmp_path: Path) -> None:
    """It is a bug of the scanner's, and ends no run."""
    host = FakeHost(tmp_path)
    host.process(10)
    scan = run.choose(["processes"])["processes"].scan(host.host)
    twice = Scan(entries=[*scan.entries, *scan.entries])

    draft = document.compose(host.host, outcome(twice), Truth())

    assert sum(len(decode_part(part)) for part in draft.parts.values()) == len(scan.entries)


def test_an_unreadable_host_has_a_name_that_says_so(tmp_path: Path) -> None:
    """An empty directory is a host, too."""
    draft = document.compose(Host(str(tmp_path)), {}, Truth())

    assert (draft.host.hostname, draft.host.os, draft.host.kernel) == ("unknown", None, None)
    with pytest.raises(errors.HostError):
        Host(str(tmp_path)).hostname()
