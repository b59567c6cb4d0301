# SPDX-License-Identifier: Apache-2.0
"""Does reports/README.md name all that a program can meet in a document, and every word of a policy?"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from reports import formats, operators
from reports.algorithms import AlgorithmTable
from reports.document import Document
from reports.policy import AppliesTo, Policy, PolicyText, RuleText, read
from tests.reports.documents.test_documents import documents, town

# Fixtures of the other module, by the names under which pytest finds them here.
__all__ = ["documents", "town"]


@pytest.fixture
def readme(house: Path) -> str:
    """The text."""
    return (house / "reports" / "README.md").read_text()


def test_every_schema_table_fact_and_column_is_described(readme: str, documents: dict[str, Document]) -> None:
    """Whoever reads the JSON relies on this page."""
    named = set(re.findall(r"`([a-z0-9_./-]+)`", readme))
    for document in documents.values():
        words = {document.schema} | {fact.name for fact in document.facts}
        for table in (*document.tables, document.unknown):
            words |= {table.name} | {column.name for column in table.columns}

        assert words - named == set(), document.schema


def test_every_operator_and_format_is_described(readme: str) -> None:
    """A word that nobody can look up is a word that nobody uses."""
    named = set(re.findall(r"`([a-z_]+)`", readme))

    assert set(operators.OPERATORS) - named == set()
    assert set(formats.names()) - named == set()


def test_every_field_of_a_policy_is_described(readme: str) -> None:
    """In the example, or beside it."""
    named = set(re.findall(r"[a-z_]+", readme))
    fields = {
        field.name for kind in (PolicyText, RuleText, AppliesTo) for field in msgspec.structs.fields(kind)
    }

    assert fields - named == set()


def test_the_example_is_a_policy(readme: str, table: AlgorithmTable) -> None:
    """Copied from the page, it must be taken."""
    lines = readme.split("## Writing a policy")[1].split("\n")
    indented = [line.removeprefix("    ") if line.startswith("    ") else "" for line in lines]
    start = next(n for n, line in enumerate(indented) if line.startswith("name = "))
    end = next(n for n, line in enumerate(indented) if line.startswith("because = "))

    policy: Policy = read("\n".join(indented[start : end + 1]), "README.md", table)

    assert [rule.id for rule in policy.rules] == ["no-sha1-leaf"]
    assert len(policy.rules[0].exemptions) == 1
