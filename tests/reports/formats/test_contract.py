# SPDX-License-Identifier: Apache-2.0
"""What does every format keep? One suite for all files in reports/formats."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import formats
from reports.document import Document, Fact, Table, columns
from reports.formats import Format, Spec

# Text of every kind that a host may hold, except lone surrogates, which no document can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
cells = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), texts, st.lists(texts, max_size=2).map(tuple)
)


@pytest.fixture(params=formats.names())
def name(request: pytest.FixtureRequest) -> str:
    """Each format in turn."""
    return str(request.param)


@pytest.fixture
def format_(name: str) -> Format:
    """Its module."""
    return formats.load(name)


def document(*rows: dict[str, object], unknown: tuple[dict[str, object], ...] = ()) -> Document:
    """A document with one table of two columns and a detail."""
    return Document(
        schema="test/1",
        title="A title",
        facts=(Fact(name="at", title="At", value="2026-11-20T00:00:00.000000Z"),),
        tables=(
            Table(
                name="things",
                title="Things",
                columns=columns(("name", "name"), ("n", "count"), detail=("secret",)),
                rows=rows,
                empty="No thing was found.",
            ),
        ),
        unknown=Table(
            name="unknown",
            title="Not known",
            columns=columns(("host", "host")),
            rows=unknown,
            empty="Nothing.",
        ),
    )


def test_a_format_says_what_it_is(format_: Format) -> None:
    """Its docstring is its help, its SPEC names what a file or an HTTP answer calls it."""
    assert isinstance(format_, ModuleType)
    assert (inspect.getdoc(format_) or "").splitlines()[0].endswith((".", ";", ":"))
    assert isinstance(format_.SPEC, Spec)
    assert "/" in format_.SPEC.media_type
    assert format_.SPEC.extension.isalnum()


def test_what_is_not_known_is_always_shown(format_: Format) -> None:
    """No format may leave out the last table."""
    assert "web7-was-not-seen" in format_.render(document(unknown=({"host": "web7-was-not-seen"},)))


def test_the_same_document_gives_the_same_bytes(format_: Format) -> None:
    """Reports are compared and signed."""
    one = document({"name": "a", "n": 1, "secret": {"b": 1, "a": 2}})

    assert format_.render(one) == format_.render(one)


def test_a_text_ends_with_one_line_feed(format_: Format) -> None:
    """A shell prompt begins on its own line."""
    text = format_.render(document())

    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_details_are_for_programs(format_: Format) -> None:
    """They would make a table for people unreadable."""
    shown = "detail-of-it" in format_.render(document({"name": "a", "n": 1, "secret": "detail-of-it"}))

    assert shown is not format_.SPEC.for_people


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J", "a\nb", "a\rb", "\u202egpj.exe", "a\u2028b", "\x00", "\x9b31m", "\u200bx", "tab\tbed"],
)
def test_no_name_acts_on_whoever_reads_it(format_: Format, hostile: str) -> None:
    """A file name on a host must not clear a terminal, forge a row or turn a word around."""
    text = format_.render(document({"name": hostile, "n": 1}))
    plain = format_.render(document({"name": "plain", "n": 1}))

    acting = {char for char in hostile if not char.isprintable()}
    assert acting
    assert not acting & (set(text) - set(plain)), text
    assert text.count("\n") == plain.count("\n")


@pytest.mark.parametrize("value", [None, True, False, 0, -3, "text", (), ("a", "b")])
def test_every_kind_of_cell_is_written(format_: Format, value: object) -> None:
    """Nothing is no error."""
    assert format_.render(document({"name": value, "n": 1}))


@given(st.lists(st.fixed_dictionaries({"name": cells, "n": cells}), max_size=3))
def test_whatever_a_host_holds_can_be_written(rows: list[dict[str, object]]) -> None:
    """A report that fails on one name hides all others."""
    for name in formats.names():
        text = formats.load(name).render(document(*rows))

        assert text.encode()
