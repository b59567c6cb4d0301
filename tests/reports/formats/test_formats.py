# SPDX-License-Identifier: Apache-2.0
"""Does each format say the same small report in its own way, so that its reader gets it back?"""

from __future__ import annotations

import csv as csv_reader
import io
import json as json_reader

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports import formats
from reports.document import Document, Fact, Table, columns
from reports.formats import csv, json, markdown
from tests.reports.conftest import Golden

SAMPLE = Document(
    schema="cryptofleet.sample/1",
    title="A sample | of *everything*",
    facts=(
        Fact(name="at", title="At", value="2026-11-20T12:00:00.000000Z"),
        Fact(name="hosts", title="Hosts", value=2),
    ),
    tables=(
        Table(
            name="files",
            title="Files",
            columns=columns(
                ("path", "path"), ("hosts", "hosts"), ("size", "size"), ("ok", "ok"), detail=("asset",)
            ),
            rows=(
                {
                    "path": "/etc/ssl/a_b*.pem",
                    "hosts": ("web1", "web2"),
                    "size": 3,
                    "ok": True,
                    "asset": {"x": [1]},
                },
                {"path": "=cmd|' /C calc'!A0", "hosts": (), "size": 12345, "ok": False, "asset": None},
                {
                    "path": "/tmp/\x1b[31mred\u202e\n<b>https://evil.example</b>",
                    "hosts": ("db|1",),
                    "size": None,
                },
            ),
            empty="No file.",
        ),
        Table(
            name="keys", title="Keys", columns=columns(("size", "size")), rows=(), empty="No key was found."
        ),
    ),
    unknown=Table(
        name="unknown",
        title="What is not known",
        columns=columns(("host", "host"), ("reason", "reason")),
        rows=({"host": "web2", "reason": "failed: it broke"},),
        empty="Nothing.",
    ),
)


@pytest.mark.parametrize("name", formats.names())
def test_the_sample_is_written_as_it_always_was(golden: Golden, name: str) -> None:
    """A format changes only in a commit that says why."""
    module = formats.load(name)

    golden.check(f"sample.{module.SPEC.extension}", module.render(SAMPLE))


def test_one_long_name_does_not_make_every_row_as_long() -> None:
    """A terminal is not 4,096 columns wide; what was cut is said."""
    rows = ({"c": "x" * 4096}, {"c": "y"})
    document = Document(
        schema="x/1",
        title="t",
        facts=(),
        tables=(Table(name="t", title="t", columns=columns(("c", "c")), rows=rows, empty=""),),
        unknown=Table(name="unknown", title="u", columns=(), rows=(), empty="none"),
    )

    text = formats.load("table").render(document)

    assert max(len(line) for line in text.splitlines()) < 300
    assert "... and 3896 more characters" in text


def test_json_is_read_back_as_it_was(golden: Golden) -> None:
    """Programs get names as the host has them."""
    read = json_reader.loads(json.render(SAMPLE))

    assert read["schema"] == "cryptofleet.sample/1"
    assert read["tables"]["files"][2]["path"] == SAMPLE.tables[0].rows[2]["path"]
    assert read["tables"]["files"][2]["ok"] is None
    assert read["tables"]["keys"] == []
    assert read["unknown"] == [{"host": "web2", "reason": "failed: it broke"}]


def test_csv_is_one_rectangle() -> None:
    """Whatever reads CSV must get every table by its name."""
    rows = list(csv_reader.DictReader(io.StringIO(csv.render(SAMPLE), newline="")))

    assert {None not in row for row in rows} == {True}
    assert next(row["path"] for row in rows if row["table"] == "files") == "/etc/ssl/a_b*.pem"
    assert [row["reason"] for row in rows if row["table"] == "unknown"] == ["failed: it broke"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10))
@example("=1+1")
@example("  =1+1")
@example("\u00a0@SUM(1)")
@example("\uff1d1")
@example("-1")
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    """Opening a report in a spreadsheet must not run what somebody called a file."""
    document = Document(
        schema="x/1",
        title=text,
        facts=(Fact(name="f", title="f", value=text),),
        tables=(
            Table(
                name="t", title="t", columns=columns(("c", "c")), rows=({"c": text}, {"c": (text,)}), empty=""
            ),
        ),
        unknown=Table(name="unknown", title="u", columns=columns(("c", "c")), rows=({"c": text},), empty=""),
    )

    for row in csv_reader.reader(io.StringIO(csv.render(document), newline="")):
        for cell in row:
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_row_of_markdown_has_the_cells_of_its_head(text: str) -> None:
    """A bar in a name must not open a new column."""
    document = Document(
        schema="x/1",
        title="t",
        facts=(),
        tables=(
            Table(
                name="t",
                title="t",
                columns=columns(("a", "a"), ("b", "b")),
                rows=({"a": text, "b": 1},),
                empty="",
            ),
        ),
        unknown=Table(name="unknown", title="u", columns=(), rows=(), empty="none"),
    )

    lines = [line for line in markdown.render(document).split("\n") if line.startswith("|")]
    borders = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines]
    assert borders == [3, 3, 3]
