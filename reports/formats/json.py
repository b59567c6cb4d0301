# SPDX-License-Identifier: Apache-2.0
"""JSON, for programs: one object with schema, facts, tables by name, and what is not known.

    {"schema": "...", "title": "...", "facts": {NAME: VALUE},
     "tables": {NAME: [{COLUMN: VALUE}]}, "unknown": [{COLUMN: VALUE}]}

Every column is in every row; one with nothing to say is null. Names are as the host has them, so whoever
prints them on a terminal must make them visible; JSON itself escapes control characters.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from reports.document import Document, Table
from reports.formats import Spec

SPEC = Spec(media_type="application/json", extension="json", for_people=False)


def render(document: Document) -> str:
    """The document as indented JSON."""
    whole = {
        "schema": document.schema,
        "title": document.title,
        "facts": {fact.name: fact.value for fact in document.facts},
        "tables": {table.name: _rows(table) for table in document.tables},
        "unknown": _rows(document.unknown),
    }
    # ASCII alone: a bidirectional override in a name must not act in a pager either.
    return json.dumps(msgspec.to_builtins(whole), indent=2, ensure_ascii=True) + "\n"


def _rows(table: Table) -> list[dict[str, Any]]:
    return [{column.name: row.get(column.name) for column in table.columns} for row in table.rows]
