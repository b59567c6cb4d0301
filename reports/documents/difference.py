# SPDX-License-Identifier: Apache-2.0
"""What is different, as a report? Drift, usage and reinterpretation apart, then the coverage."""

from __future__ import annotations

import re
from typing import Any

from agent.model.inventory import SectionState
from reports.algorithms import AlgorithmTable
from reports.compare import Class, Difference, EntryChange, FieldChange, SectionChange
from reports.coverage import Gap, section_gap
from reports.describe import asset_words, place_words
from reports.document import Column, Document, Fact, Table, columns
from reports.documents import unknown
from reports.text import to_second
from reports.view import HostView

SCHEMA = "cryptofleet.difference/1"
_TITLES: dict[Class, tuple[str, str]] = {
    "drift": ("Drift: what is there", "No state section differs in what was found."),
    "usage": ("Usage: what was seen in use", "No sampled section differs in what was found."),
    "reinterpreted": (
        "Reinterpreted: read by another version of the detector",
        "No difference is explained by a detector's version alone.",
    ),
}
# One certificate in a bundle of 140 must not print 140 digests; the JSON has them all.
_WORDS_MAX = 3
# People compare the first few digits of a digest; a build id has 40, a SHA-256 has 64.
_DIGEST = re.compile("^[0-9a-f]{40,64}$")
_DIGEST_SHOWN = 12


def difference_document(difference: Difference, table: AlgorithmTable) -> Document:
    """A difference of two views."""
    changes = [(section, change) for section in difference.sections for change in section.entries]
    tables = [
        Table(
            name=kind,
            title=_TITLES[kind][0],
            columns=_CHANGE_COLUMNS,
            rows=tuple(_row(section, change, table) for section, change in changes if change.kind == kind),
            empty=_TITLES[kind][1],
        )
        for kind in _TITLES
    ]
    tables.append(_coverage(difference))
    return Document(
        schema=SCHEMA,
        title=f"From {_side(difference.before)} to {_side(difference.after)}",
        facts=(
            Fact(name="before", title="Before", value=_side(difference.before)),
            Fact(name="before_host_id", title="Before, identity", value=difference.before.host_id),
            Fact(name="after", title="After", value=_side(difference.after)),
            Fact(name="after_host_id", title="After, identity", value=difference.after.host_id),
            Fact(name="equal", title="Equal", value=difference.equal),
        ),
        tables=tuple(tables),
        unknown=unknown([*_gaps(difference.before, difference), *_gaps(difference.after, difference)]),
    )


_CHANGE_COLUMNS: tuple[Column, ...] = columns(
    ("section", "section"),
    ("change", "change"),
    ("key", "key"),
    ("what", "what"),
    ("certainty", "certainty"),
    detail=("where", "fields", "before", "after"),
)


def _side(view: HostView) -> str:
    return f"{view.name} as of {to_second(view.as_of)}" if view.as_of else view.name


def _row(section: SectionChange, change: EntryChange, table: AlgorithmTable) -> dict[str, Any]:
    entry = change.after or change.before
    assert entry is not None
    if change.change == "changed":
        what = tuple(_field_words(field) for field in change.fields)
    else:
        what = (asset_words(entry.asset, table),)
    return {
        "section": section.section,
        "change": change.change,
        "key": change.key,
        "what": what,
        "certainty": None if change.certain else "one side is partial and may not have seen it",
        "where": place_words(entry.where),
        "fields": change.fields,
        "before": change.before,
        "after": change.after,
    }


def _field_words(change: FieldChange) -> str:
    name = change.field.removeprefix("asset.")
    if isinstance(change.before, list | tuple) or isinstance(change.after, list | tuple):
        before, after = set(change.before or ()), set(change.after or ())
        gone = [f"-{_value(item)}" for item in sorted(before - after)]
        come = [f"+{_value(item)}" for item in sorted(after - before)]
        return f"{name}: {_first(gone + come)}"
    return f"{name}: {_value(change.before)} -> {_value(change.after)}"


def _first(words: list[str]) -> str:
    rest = len(words) - _WORDS_MAX
    return " ".join(words[:_WORDS_MAX]) + (f" and {rest} more" if rest > 0 else "")


def _value(value: object) -> str:
    if value is None:
        return "(not stated)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = to_second(str(value))
    return f"{text[:_DIGEST_SHOWN]}..." if _DIGEST.match(text) else text


def _coverage(difference: Difference) -> Table:
    differs = [section for section in difference.sections if section.coverage_differs or not section.compared]
    return Table(
        name="coverage",
        title="Coverage: how far each side could be seen",
        columns=columns(
            ("section", "section"),
            ("before", "before"),
            ("after", "after"),
            ("compared", "compared"),
        ),
        rows=tuple(
            {
                "section": section.section,
                "before": _status(section.before),
                "after": _status(section.after),
                "compared": section.compared,
            }
            for section in differs
        ),
        empty="Both sides could be seen equally far.",
    )


def _status(state: SectionState | None) -> str:
    if state is None:
        return "missing"
    return f"{state.status}: {state.reason}" if state.reason else state.status


def _gaps(view: HostView, difference: Difference) -> list[Gap]:
    asked = sorted(set(difference.before.sections) | set(difference.after.sections))
    return [gap for section in asked if (gap := section_gap(view, section)) is not None]
