# SPDX-License-Identifier: Apache-2.0
"""A secret has no printed form."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from agent.secret import HIDDEN, Secret

WORD = "cft_a-token-for-tests"


def test_no_way_of_printing_shows_it() -> None:
    """Nor does a container that prints what it holds."""
    secret = Secret(WORD)

    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])):  # noqa: UP031
        assert WORD not in shown
        assert HIDDEN in shown
    assert secret.reveal() == WORD


def test_it_is_not_encoded_or_pickled_by_accident() -> None:
    """A document or a cache that it was put into by mistake fails, instead of carrying it."""
    with pytest.raises(TypeError):
        msgspec.json.encode({"token": Secret(WORD)})
    with pytest.raises(TypeError):
        pickle.dumps(Secret(WORD))
    with pytest.raises(TypeError):
        hash(Secret(WORD))


def test_equal_secrets_are_equal() -> None:
    """And are no text, whatever that text says."""
    assert Secret(WORD) == Secret(WORD)
    assert Secret(WORD) != Secret(WORD + "x")
    assert Secret(WORD) != WORD


def test_it_is_hidden_in_what_others_say() -> None:
    """As often as it stands there; an empty one hides nothing."""
    assert Secret(WORD).hide_in(f"no {WORD}, {WORD}!") == f"no {HIDDEN}, {HIDDEN}!"
    assert Secret("").hide_in("words") == "words"
