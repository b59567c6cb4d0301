# SPDX-License-Identifier: Apache-2.0
"""Markdown with tables (GitHub Flavored Markdown), for tickets and wikis."""

from __future__ import annotations

import re

from reports.document import Document, Table
from reports.formats import Spec
from reports.text import readable

SPEC = Spec(media_type="text/markdown", extension="md", for_people=True)

# What Markdown reads as markup inside a line: emphasis, code, links, images, HTML, cell borders,
# strikethrough.
_MARKUP = re.compile(r"([\\`*_\[\]<>|~#&])")
# GFM turns these into links by themselves; a name on a host must not become something to click on.
_AUTOLINK = re.compile(r"(https?|ftp)://|www\.", re.IGNORECASE)


def render(document: Document) -> str:
    """Heading, facts as a list, then one table under a heading each."""
    blocks = [f"# {_text(document.title)}"]
    if document.facts:
        blocks.append(
            "\n".join(f"- {_text(fact.title)}: {_cell(fact.value)}".rstrip() for fact in document.facts)
        )
    for table in (*document.tables, document.unknown):
        blocks += [f"## {_text(table.title)}", _table(table) if table.rows else _text(table.empty)]
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    head = [_text(column.title) for column in table.shown]
    rows = [[_cell(row.get(column.name)) for column in table.shown] for row in table.rows]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "<br>".join(_text(item) for item in value)
    return _text(str(value))


def _text(text: str) -> str:
    escaped = _MARKUP.sub(r"\\\1", readable(text))
    # An empty comment splits the word for the autolinker and is shown as nothing.
    return _AUTOLINK.sub(lambda match: match[0][:-1] + "<!-- -->" + match[0][-1], escaped)
