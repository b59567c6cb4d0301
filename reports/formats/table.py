# SPDX-License-Identifier: Apache-2.0
"""Plain text in columns, for a terminal; the same in a pipe, without colours."""

from __future__ import annotations

from tabulate import tabulate

from reports.document import Document, Fact, Table
from reports.formats import Spec
from reports.text import readable, visible

# Longer than almost every path and name. One name of 4,096 characters would otherwise pad every row to its
# width; the other formats have it whole.
_CELL_CHARS_MAX = 200
SPEC = Spec(media_type="text/plain", extension="txt", for_people=True)


def render(document: Document) -> str:
    """Heading, facts, then one block for each table."""
    blocks = [_heading(document.title)]
    if document.facts:
        blocks.append(_facts(document.facts))
    blocks += [_block(table) for table in (*document.tables, document.unknown)]
    return "\n\n".join(blocks) + "\n"


def _heading(text: str) -> str:
    shown = visible(text)
    return f"{shown}\n{'=' * len(shown)}"


def _facts(facts: tuple[Fact, ...]) -> str:
    grid = tabulate(
        [[fact.title, _cell(fact.value)] for fact in facts], tablefmt="plain", disable_numparse=True
    )
    return _trimmed(grid, "")


def _block(table: Table) -> str:
    if not table.rows:
        return f"{visible(table.title)}\n  {table.empty}"
    grid = tabulate(
        [[_cell(row.get(column.name)) for column in table.shown] for row in table.rows],
        headers=[column.title for column in table.shown],
        tablefmt="simple",
        colalign=[_alignment(table, column.name) for column in table.shown],
        disable_numparse=True,
    )
    return f"{visible(table.title)}\n{_trimmed(grid, '  ')}"


def _trimmed(grid: str, margin: str) -> str:
    # tabulate pads the last column; blanks at the end of a line only disturb a diff of two reports.
    return "\n".join(f"{margin}{line}".rstrip() for line in grid.splitlines())


def _alignment(table: Table, name: str) -> str:
    values = [value for row in table.rows if (value := row.get(name)) is not None]
    numbers = bool(values) and all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return "right" if numbers else "left"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        # One below the other. A line feed inside a name has been written out by then.
        return "\n".join(_cut(readable(item)) for item in value)
    return _cut(readable(str(value)))


def _cut(text: str) -> str:
    rest = len(text) - _CELL_CHARS_MAX
    return f"{text[:_CELL_CHARS_MAX]}... and {rest} more characters" if rest > 0 else text
