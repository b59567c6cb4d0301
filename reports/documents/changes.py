# SPDX-License-Identifier: Apache-2.0
"""What became of the findings between two days, as a report? What is no longer seen is not resolved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reports.algorithms import AlgorithmTable
from reports.assess import Assessment
from reports.changes import ChangeName, FindingChange
from reports.document import Column, Document, Fact, Table
from reports.documents import unknown
from reports.documents.compliance import FINDING_COLUMNS, VERDICTS, finding_rows, rules_by_name
from reports.policy import SEVERITIES, Rule

SCHEMA = "cryptofleet.compliance-changes/1"
_TABLES: dict[ChangeName, tuple[str, str]] = {
    "new": ("New", "No finding is new."),
    "became-unknown": ("Became unknown", "Nothing that was known became unknown."),
    "became-known": ("Became known", "Nothing that was unknown became known."),
    "resolved": ("Resolved", "No finding was resolved."),
    "still-open": ("Still open", "No finding is still open."),
    "still-unknown": ("Still unknown", "Nothing stayed unknown."),
}
# Columns of a finding that a change says in its own way.
_OWN = {"verdict", "because"}
# What a change says beside the finding it is about: how it was, and how it stands now.
_STANDING = (
    Column(name="verdict_before", title="before"),
    Column(name="verdict_after", title="now"),
    Column(name="now", title="why"),
)


def changes_document(
    found: Sequence[FindingChange], before: Assessment, after: Assessment, table: AlgorithmTable
) -> Document:
    """Changes of findings, one table for each kind of change."""
    rules = rules_by_name((*before.policies, *after.policies))
    tables = tuple(
        Table(
            name=name.replace("-", "_"),
            title=title,
            columns=(
                *_STANDING,
                *(column for column in FINDING_COLUMNS if column.name not in _OWN),
            ),
            rows=_rows((change for change in found if change.change == name), rules, table),
            empty=empty,
        )
        for name, (title, empty) in _TABLES.items()
    )
    return Document(
        schema=SCHEMA,
        title="Changes of compliance with " + ", ".join(policy.text.title for policy in after.policies),
        facts=(
            Fact(name="before", title="From", value=before.at),
            Fact(name="after", title="To", value=after.at),
            Fact(name="hosts_before", title="Hosts then", value=len(before.hosts)),
            Fact(name="hosts_after", title="Hosts now", value=len(after.hosts)),
        ),
        tables=tables,
        unknown=unknown(after.gaps),
    )


def _rows(
    found: Iterable[FindingChange], rules: dict[tuple[str, str], Rule], table: AlgorithmTable
) -> tuple[dict[str, Any], ...]:
    alike: dict[tuple[str | None, str | None, tuple[str, ...]], list[FindingChange]] = {}
    for change in found:
        before = change.before.verdict if change.before else None
        after = change.after.verdict if change.after else None
        alike.setdefault((before, after, change.because), []).append(change)
    rows = [
        {name: cell for name, cell in row.items() if name not in _OWN}
        | {"verdict_before": before, "verdict_after": after, "now": because}
        for (before, after, because), changes in alike.items()
        for row in finding_rows((change.finding for change in changes), rules, table)
    ]
    return tuple(sorted(rows, key=_worst_first))


def _worst_first(row: dict[str, Any]) -> tuple[object, ...]:
    """As findings are ordered: whoever is woken by the report reads its first line first."""
    # What was resolved stands where it stood.
    standing = (row["verdict_after"], row["verdict_before"])
    return (
        next(VERDICTS.index(verdict) for verdict in standing if verdict in VERDICTS),
        SEVERITIES.index(row["severity"]),
        row["policy"],
        row["policy_section"],
        row.get("key") or "",
        row["hosts_shown"],
    )
