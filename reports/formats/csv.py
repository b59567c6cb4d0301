# SPDX-License-Identifier: Apache-2.0
"""CSV, for spreadsheets: all tables in one rectangle (RFC 4180), the first column naming the table.

One header with the columns of every table, each once, in the order in which they first appear; a cell of a
column that a row's table does not have is empty. A text that a spreadsheet would take for a formula gets an
apostrophe before it, as OWASP advises ("CSV injection"): the names in it are chosen by whoever can write a
file on a host.
"""

from __future__ import annotations

import csv
import io

from reports.document import Document
from reports.formats import Spec
from reports.text import visible

SPEC = Spec(media_type="text/csv", extension="csv", for_people=True)

# What opens a formula, also behind blanks, in Excel, LibreOffice or Google Sheets; the last four are
# full-width forms.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def render(document: Document) -> str:
    """Facts, tables and what is not known as one CSV text."""
    tables = (*document.tables, document.unknown)
    names = list(dict.fromkeys(column.name for table in tables for column in table.shown))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["table", "fact", "value", *names])
    for fact in (
        ("schema", document.schema),
        ("title", document.title),
        *((f.name, f.value) for f in document.facts),
    ):
        writer.writerow(["facts", fact[0], _cell(fact[1]), *[""] * len(names)])
    for table in tables:
        own = {column.name for column in table.shown}
        for row in table.rows:
            writer.writerow(
                [table.name, "", "", *[_cell(row.get(name)) if name in own else "" for name in names]]
            )
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = visible("; ".join(value) if isinstance(value, tuple) else str(value))
    # A written-out tab or line feed begins with a backslash and opens nothing.
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
