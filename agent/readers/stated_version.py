# SPDX-License-Identifier: Apache-2.0
"""Which version do bytes state, in the words that a library uses for it?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from agent.readers.library_table import Statement

# How often a library may say the words without a version after them: OpenSSL says its name 41 times.
_TRIES_MAX = 1000
# A constant that is a version and nothing else. It counts only when there is exactly one in the file.
_LONE = re.compile(rb"\0([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})(?=\0)")


class Stated(NamedTuple):
    """What was found, and what it took."""

    version: str | None
    """None where nothing is stated, or the words hold no version."""
    family: str | None
    """Told by the words, where they tell a fork."""
    searched_bytes: int


def stated(statement: Statement, data: bytes) -> bytes | None:
    """The version after the first words that hold one; empty where the words need none; None without them."""
    at = -1
    for _ in range(_TRIES_MAX):
        at = data.find(statement.anchor, at + 1)
        if at < 0:
            return None
        match = statement.pattern.match(data, at)
        if match is not None:
            return match[1]
    return None


def first_stated(statements: Iterable[Statement], chunks: Iterable[bytes]) -> Stated:
    """What the first chunk with any of the statements says; in one chunk the first statement counts."""
    searched = 0
    for chunk in chunks:
        searched += len(chunk)
        for statement in statements:
            version = stated(statement, chunk)
            if version is not None:
                return Stated(version.decode("ascii") or None, statement.family, searched)
    return Stated(None, None, searched)


def lone_version(chunks: Iterable[bytes]) -> Stated:
    """The only constant that is a version, where there is no second one."""
    searched = 0
    found: set[bytes] = set()
    for chunk in chunks:
        searched += len(chunk)
        found.update(match[1] for match in itertools.islice(_LONE.finditer(chunk), _TRIES_MAX))
        if len(found) > 1:
            return Stated(None, None, searched)
    return Stated(found.pop().decode("ascii") if found else None, None, searched)
