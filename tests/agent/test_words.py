# SPDX-License-Identifier: Apache-2.0
"""Names and reasons among words for people."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.words import plain, why


@given(st.text(alphabet=st.characters(codec=None)))
def test_plain_words_are_printable_and_tell_different_names_apart(words: str) -> None:
    """Surrogates, directions of writing and everything else that a terminal would obey."""
    shown = plain(words)

    assert shown.isprintable()
    assert shown.encode().decode() == shown
    if words.isprintable():
        assert shown == words


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a\nb", r"a\u000ab"),
        ("\x1b[31m", r"\u001b[31m"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("é日", "é日"),
    ],
)
def test_control_characters_are_shown(words: str, shown: str) -> None:
    """In the form that JSON and Python have for them."""
    assert plain(words) == shown


def test_the_kernel_s_reason_goes_on_a_sentence() -> None:
    """And what is no error of a system call has its own words."""
    assert why(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) == "no space left on device"
    assert why(OSError("Nothing")) == "nothing"
