# SPDX-License-Identifier: Apache-2.0
"""What is a report before anybody has chosen a format? Facts, tables, and the table of what is not known.

Every document has that last table, so no report can leave it out. Formats render documents and know nothing
of their content; documents know nothing of formats.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Cell = str | int | bool | None | tuple[str, ...]
"""What people read: a text, a whole number, yes or no, nothing, or a list of texts."""
Rows = tuple[dict[str, Any], ...]


class Column(Struct, frozen=True, kw_only=True):
    """One column.

    Attributes:
        name: its key in JSON and CSV: lower case, underscores, units last.
        title: its heading for people.
        detail: only formats for programs show it; its cells may be any JSON value.
    """

    name: str
    title: str
    detail: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """Rows of one kind.

    Attributes:
        name: its key in JSON and CSV.
        title: its heading.
        columns: in order.
        rows: by column name; a column that is not in a row is empty there.
        empty: what is said when there is no row; a sentence, so that nothing found is not mistaken for
            nothing looked at.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Rows
    empty: str

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns for people."""
        return tuple(column for column in self.columns if not column.detail)


class Fact(Struct, frozen=True, kw_only=True):
    """One statement about the whole report."""

    name: str
    title: str
    value: Cell


class Document(Struct, frozen=True, kw_only=True):
    """One report.

    Attributes:
        schema: names and numbers its shape; raised when a field changes its meaning or goes away.
        title: its heading.
        facts: what holds for all of it, the evaluation date among them.
        tables: in order.
        unknown: what is not known; `reports.documents.unknown` makes it.
    """

    schema: str
    title: str
    facts: tuple[Fact, ...]
    tables: tuple[Table, ...]
    unknown: Table


def columns(*names_and_titles: tuple[str, str], detail: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Columns from pairs of name and heading, then those that only programs see."""
    shown = tuple(Column(name=name, title=title) for name, title in names_and_titles)
    return shown + tuple(Column(name=name, title=name, detail=True) for name in detail)
