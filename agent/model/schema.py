# SPDX-License-Identifier: Apache-2.0
"""What is the published JSON Schema of the inventory document? Made from the types, so it cannot disagree with them.

`python -m agent.model.schema` writes inventory.schema.json beside this file; a test keeps the two equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from agent.model.inventory import SCHEMA, Inventory

PATH = Path(__file__).with_name("inventory.schema.json")


def build() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) as a document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:cryptofleet:schema:inventory:{SCHEMA}",
        "title": "Cryptofleet inventory",
        **msgspec.json.schema(Inventory),
    }


def text() -> str:
    """The bytes of the published file."""
    return json.dumps(build(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
