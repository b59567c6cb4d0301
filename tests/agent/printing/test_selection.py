# SPDX-License-Identifier: Apache-2.0
"""Which events and processes match: every filter alone, and all together, on names as they are."""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import canonical
from agent.printing.selection import Selection

PEM = "/etc/ssl/certs/server.pem"


def opened(file: str = PEM, *, pid: int = 7, process: str = "nginx") -> dict[str, Any]:
    """What an event about a file says."""
    return {"pid": pid, "process": process, "file": file}


def loaded(library: str = "/usr/lib/libssl.so.3", *, pid: int = 7, process: str = "nginx") -> dict[str, Any]:
    """What an event about a library says."""
    return {"pid": pid, "process": process, "library": library}


def test_asking_for_nothing_is_asking_for_everything() -> None:
    """No filter, no difference."""
    assert Selection().matches(**opened())
    assert Selection().matches(**loaded())
    assert Selection().matches(pid=1, process="")
    assert Selection().is_everything
    assert not Selection(pid=1).is_everything


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        # The documented ones.
        ("*.pem", "/etc/ssl/certs/server.pem", True),
        ("*.pem", "/home/alice/key.pem", True),
        ("*.pem", "/etc/ssl/server.pem.bak", False),
        ("*.pem", "/etc/ssl/server.crt", False),
        ("/etc/ssl/*", "/etc/ssl/a.pem", True),
        ("/etc/ssl/*", "/etc/ssl/certs/deep/down/a.pem", True),
        ("/etc/ssl/*", "/etc/ssl/", True),
        ("/etc/ssl/*", "/etc/ssl", False),
        ("/etc/ssl/*", "/srv/etc/ssl/a.pem", False),
        ("*server*", "/etc/server/a.pem", True),
        ("*server*", "/etc/ssl/my-server.key", True),
        ("*server*", "/etc/ssl/serve.key", False),
        # Case, whole path, one character, one of several.
        ("*.pem", "/etc/ssl/A.PEM", False),
        ("*.PEM", "/etc/ssl/A.PEM", True),
        ("/ETC/*", "/etc/ssl/a.pem", False),
        ("server.pem", "/etc/ssl/certs/server.pem", False),
        (PEM, PEM, True),
        ("/etc/ssl/?.pem", "/etc/ssl/a.pem", True),
        ("/etc/ssl/?.pem", "/etc/ssl/ab.pem", False),
        ("/etc/ssl/?.pem", "/etc/ssl/.pem", False),
        ("/etc?ssl?a.pem", "/etc/ssl/a.pem", True),
        ("*/[abc].pem", "/etc/ssl/b.pem", True),
        ("*/[abc].pem", "/etc/ssl/d.pem", False),
        ("*/[a-z].pem", "/etc/ssl/q.pem", True),
        ("*/[a-z].pem", "/etc/ssl/Q.pem", False),
        ("*/[!a-z].pem", "/etc/ssl/Q.pem", True),
        ("*/[!a-z].pem", "/etc/ssl/q.pem", False),
        ("*/[].pem", "/etc/ssl/[].pem", True),
        ("*.{pem,crt}", "/etc/ssl/a.pem", False),
        # What means something to regular expressions means nothing here.
        ("/etc/a.pem", "/etc/axpem", False),
        ("/etc/(a|b)+$", "/etc/(a|b)+$", True),
        ("", "/etc/ssl/a.pem", False),
        ("*", "/", True),
        # Nothing in a name ends or begins it anew.
        ("*.pem", "/tmp/a\n.pem", True),
        ("*.pem", "/tmp/a.pem\n", False),
        ("/tmp/*", "/etc/x\n/tmp/a.pem", False),
    ],
)
def test_a_file_is_selected_by_its_whole_path(pattern: str, path: str, is_match: bool) -> None:
    """`*` crosses directories, and nothing else is looser than it looks."""
    assert Selection(file=pattern).matches(**opened(path)) is is_match
    assert (
        Selection(file=pattern).admits(pid=7, process="nginx", libraries=(), files=["/x", path]) is is_match
    )


@pytest.mark.parametrize(
    ("part", "path", "is_match"),
    [
        # The documented ones.
        ("libssl", "/usr/lib/libssl.so", True),
        ("libssl", "/usr/lib/x86_64-linux-gnu/libssl.so.1.1", True),
        ("libssl", "/opt/openssl/lib/libssl.so.3", True),
        ("libssl", "/usr/lib/libcrypto.so.3", False),
        ("openssl", "/opt/openssl/lib/libssl.so.3", True),
        ("LIBSSL", "/usr/lib/libssl.so", False),
        ("/usr/lib/", "/usr/lib/libssl.so", True),
        ("libssl*", "/usr/lib/libssl.so", False),
        (".", "/usr/lib/libssl.so", True),
    ],
)
def test_a_library_is_selected_by_any_part_of_its_path(part: str, path: str, is_match: bool) -> None:
    """A part, letter by letter; no pattern."""
    assert Selection(library=part).matches(**loaded(path)) is is_match
    assert Selection(library=part).admits(pid=7, process="nginx", libraries=[path], files=()) is is_match


@pytest.mark.parametrize(
    ("part", "process", "is_match"),
    [
        ("nginx", "nginx", True),
        ("gin", "nginx", True),
        ("nginx", "nginx: worker", True),
        ("NGINX", "nginx", False),
        ("nginx2", "nginx", False),
        ("ng*", "nginx", False),
        (" ", "tmux: server", True),
    ],
)
def test_a_process_is_selected_by_a_part_of_its_name(part: str, process: str, is_match: bool) -> None:
    """Case-sensitive, as documented."""
    assert Selection(name=part).matches(**opened(process=process)) is is_match
    assert Selection(name=part).admits(pid=7, process=process, libraries=(), files=()) is is_match


def test_a_number_is_that_number() -> None:
    """Exactly: 12 is not 123."""
    assert Selection(pid=12).matches(**opened(pid=12))
    assert not Selection(pid=12).matches(**opened(pid=123))
    assert not Selection(pid=12).admits(pid=1, process="x", libraries=(), files=())


def test_what_lacks_the_field_does_not_match() -> None:
    """A process that ends has neither library nor file."""
    ended: dict[str, Any] = {"pid": 7, "process": "nginx"}
    for selection in (Selection(library="l"), Selection(file="*"), Selection(library="")):
        assert not selection.matches(**ended)
    assert not Selection(library="libssl").matches(**opened("/tmp/libssl"))
    assert not Selection(file="*").matches(**loaded())
    assert not Selection(file="*").admits(pid=7, process="nginx", libraries=["/l"], files=[])
    assert not Selection(library="l").admits(pid=7, process="nginx", libraries=[], files=["/l"])


MATCHING = {"pid": 7, "name": "ngin", "library": "libssl", "file": "*.pem"}
OTHER = {"pid": 8, "name": "apache", "library": "libgnutls", "file": "*.key"}


@pytest.mark.parametrize("given", list(itertools.product([None, True, False], repeat=4)), ids=repr)
def test_all_filters_must_match(given: tuple[bool | None, ...]) -> None:
    """Every way to give, to give wrongly and to leave out the four of them."""
    filters: dict[str, Any] = {
        name: (MATCHING if is_right else OTHER)[name]
        for name, is_right in zip(MATCHING, given, strict=True)
        if is_right is not None
    }
    both = {"library": "/usr/lib/libssl.so.3", "file": PEM}

    is_match = False not in given
    assert Selection(**filters).matches(pid=7, process="nginx", **both) is is_match
    assert (
        Selection(**filters).admits(
            pid=7, process="nginx", libraries=["/l", both["library"]], files=["/f", both["file"]]
        )
        is is_match
    )


def test_names_are_compared_as_they_are_and_not_as_they_are_printed() -> None:
    r"""Printed, a backslash is two and a byte that is no text is `\xff`; a filter is about the name."""
    raw = b"/tmp/a\\b\xff.pem"
    printed = canonical.escape_bytes(raw)
    assert printed == r"/tmp/a\\b\xff.pem"

    for pattern, is_match in [
        ("/tmp/a?b?.pem", True),
        ("*xff*", False),
        ("*\\\\*", False),
        (os.fsdecode(raw), True),
    ]:
        assert Selection(file=pattern).matches(**opened(printed)) is is_match
    assert Selection(name=os.fsdecode(b"c\xff")).matches(**opened(process=canonical.escape_bytes(b"c\xff\\")))
    assert not Selection(name="xff").matches(**opened(process=canonical.escape_bytes(b"c\xff")))
    assert Selection(library="a\\b").matches(**loaded(canonical.escape_bytes(b"/a\\b/libssl.so")))


@given(st.binary(max_size=30), st.text(alphabet="ab*?[]!-/.\\", max_size=8))
def test_the_pattern_is_pythons_own_on_the_raw_name(raw: bytes, pattern: str) -> None:
    """Against the library that we did not write, for any bytes."""
    expected = fnmatch.fnmatchcase(os.fsdecode(raw), pattern)

    assert Selection(file=pattern).matches(**opened(canonical.escape_bytes(raw))) is expected


@given(st.binary(max_size=30), st.binary(max_size=4))
def test_a_part_is_a_part_of_the_raw_name(raw: bytes, part: bytes) -> None:
    """Of its characters, as Python tells them apart."""
    expected = os.fsdecode(part) in os.fsdecode(raw)

    assert Selection(name=os.fsdecode(part)).matches(pid=1, process=canonical.escape_bytes(raw)) is expected
    assert Selection(library=os.fsdecode(part)).matches(**loaded(canonical.escape_bytes(raw))) is expected


def test_a_command_line_asks_for_what_it_names() -> None:
    """Options that a command does not have ask for nothing."""
    asked = argparse.Namespace(pid=7, name="n", library="l", file="f", other=1)
    assert Selection.of(asked) == Selection(pid=7, name="n", library="l", file="f")
    assert Selection.of(argparse.Namespace()) == Selection()


def test_with_children_the_number_is_the_kernels_business() -> None:
    """A descendant has another number and is asked for."""
    asked = argparse.Namespace(pid=7, name="n", follow_children=True)
    assert Selection.of(asked) == Selection(name="n")
    assert Selection.of(argparse.Namespace(pid=7, follow_children=False)) == Selection(pid=7)
