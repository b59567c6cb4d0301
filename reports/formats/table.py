# SPDX-License-Identifier: Apache-2.0
"""Plain text in columns, for a terminal; the same in a pipe, without colours."""

from __future__ import annotations

from tabulate import tabulate

from reports.document import Document, Table
from reports.formats import Spec
from reports.text import readable, visible

SPEC = Spec(media_type="text/plain", extension="txt", for_people=True)


def render(document: Document) -> str:
    """Heading, facts, then one block for each table."""
    blocks = [_heading(document.title, "=")]
    if document.facts:
        width = max(len(fact.title) for fact in document.facts)
        blocks.append(
            "\n".join(f"{fact.title:<{width}}  {_cell(fact.value)}".rstrip() for fact in document.facts)
        )
    blocks += [_block(table) for table in (*document.tables, document.unknown)]
    return "\n\n".join(blocks) + "\n"


def _heading(text: str, line: str) -> str:
    shown = visible(text)
    return f"{shown}\n{line * len(shown)}"


def _block(table: Table) -> str:
    if not table.rows:
        return f"{visible(table.title)}\n  {table.empty}"
    rows = [[_cell(row.get(column.name)) for column in table.shown] for row in table.rows]
    grid = tabulate(
        rows,
        headers=[column.title for column in table.shown],
        tablefmt="simple",
        colalign=[_alignment(table, column.name) for column in table.shown],
        disable_numparse=True,
    )
    # tabulate pads the last column; blanks at the end of a line only disturb a diff of two reports.
    lines = [line.rstrip() for line in grid.splitlines()]
    return "\n".join([visible(table.title), *(f"  {line}".rstrip() for line in lines)])


def _alignment(table: Table, name: str) -> str:
    values = [row.get(name) for row in table.rows]
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return "right" if numbers else "left"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(readable(item) for item in value)
    return readable(str(value))
