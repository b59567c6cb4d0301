# SPDX-License-Identifier: Apache-2.0
"""One compact JSON value per line, for pipes."""

from __future__ import annotations

from typing import Any

import msgspec


def document(value: Any) -> bytes:  # noqa: ANN401 - any document
    """The document on one line."""
    return msgspec.json.encode(value) + b"\n"


class Stream:
    """Each event on a line of its own, complete by itself."""

    is_whole = False

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def item(self, value: Any) -> bytes:  # noqa: ANN401 - any event
        """The event on one line."""
        return msgspec.json.encode(value) + b"\n"

    def end(self) -> bytes:
        """Nothing."""
        return b""
