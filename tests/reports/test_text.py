# SPDX-License-Identifier: Apache-2.0
"""Can a name deceive whoever reads it?"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.canonical import escape_bytes
from reports.text import readable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/etc/ssl/web.pem", "/etc/ssl/web.pem"),
        ("CN=Zürich 東京", "CN=Zürich 東京"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\x7f\x9b", "\\x7f\\u009b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_acts_is_written_out(text: str, shown: str) -> None:
    """And what does not act is left alone."""
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    """Whatever a host's users call their files."""
    assert not {unicodedata.category(char) for char in visible(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"}


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_two_files_never_look_the_same(one: bytes, other: bytes) -> None:
    """The host's escape and this one do not meet: a backslash from the host is always doubled."""
    shown, other_shown = visible(escape_bytes(one)), visible(escape_bytes(other))

    assert (shown == other_shown) is (one == other)


def test_a_timestamp_is_read_to_the_second() -> None:
    """Six fractional digits are for machines."""
    assert readable("2026-11-20T12:00:00.123456Z") == "2026-11-20 12:00:00Z"
    assert readable("2026-11-20T12:00:00Z and more") == "2026-11-20T12:00:00Z and more"
