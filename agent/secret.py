# SPDX-License-Identifier: Apache-2.0
"""How is a secret carried without being shown? A text whose every printed form is the word hidden."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "[hidden]"


class Secret:
    """A token, key or password. Only `reveal` gives it out, so a search for that word finds every use."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself: for the wire and for its own file, never for people."""
        return self._value

    def hide_in(self, words: str) -> str:
        """The words without the secret, should a foreign error or answer have quoted it."""
        return words.replace(self._value, HIDDEN) if self._value else words

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    # Its hash would be a way to test guesses; nothing needs secrets in a set.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
