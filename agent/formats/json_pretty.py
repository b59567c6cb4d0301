# SPDX-License-Identifier: Apache-2.0
"""One JSON document, indented, for people and files."""

from __future__ import annotations

from typing import Any

import msgspec


def document(value: Any) -> bytes:  # noqa: ANN401 - any document
    """The document with two spaces of indentation."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


class Stream:
    """One array of events, indented; whole once it has ended."""

    is_whole = True

    def __init__(self) -> None:
        self._is_empty = True

    def begin(self) -> bytes:
        """The opening bracket."""
        return b"[\n"

    def item(self, value: Any) -> bytes:  # noqa: ANN401 - any event
        """The event, indented once more than by itself."""
        comma = b"" if self._is_empty else b",\n"
        self._is_empty = False
        # Line feeds within texts are escaped; those that are there are the format's own.
        return comma + b"  " + document(value).rstrip(b"\n").replace(b"\n", b"\n  ")

    def end(self) -> bytes:
        """The closing bracket."""
        return b"]\n" if self._is_empty else b"\n]\n"
