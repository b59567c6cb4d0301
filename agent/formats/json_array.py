# SPDX-License-Identifier: Apache-2.0
"""One JSON array with a compact value per line, for programs that read all of it at once."""

from __future__ import annotations

from typing import Any

import msgspec


def document(value: Any) -> bytes:  # noqa: ANN401 - any document
    """An array of this one document."""
    return b"[\n" + msgspec.json.encode(value) + b"\n]\n"


class Stream:
    """An array, also where there was no event; whole once it has ended."""

    is_whole = True

    def __init__(self) -> None:
        self._is_empty = True

    def begin(self) -> bytes:
        """The opening bracket, so that a reader sees at once that somebody writes."""
        return b"[\n"

    def item(self, value: Any) -> bytes:  # noqa: ANN401 - any event
        """The event, without a line feed: only the next one knows that a comma belongs there."""
        comma = b"" if self._is_empty else b",\n"
        self._is_empty = False
        return comma + msgspec.json.encode(value)

    def end(self) -> bytes:
        """The closing bracket."""
        return b"]\n" if self._is_empty else b"\n]\n"
