# SPDX-License-Identifier: Apache-2.0
"""One JSON document, indented, for people and files."""

from __future__ import annotations

from typing import Any

import msgspec


def document(value: Any) -> bytes:  # noqa: ANN401 - any document
    """The document with two spaces of indentation."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
