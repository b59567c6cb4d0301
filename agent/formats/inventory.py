# SPDX-License-Identifier: Apache-2.0
"""The inventory document of a snapshot and nothing else, in its canonical bytes."""

from __future__ import annotations

from typing import Any

import msgspec


def snapshot(value: Any) -> bytes:  # noqa: ANN401 - a snapshot
    """Manifest, parts and live counts, as they are hashed and posted."""
    return msgspec.json.encode(value["inventory"]) + b"\n"
