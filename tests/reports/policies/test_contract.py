# SPDX-License-Identifier: Apache-2.0
"""What does every policy that ships keep? One suite for all files in reports/policies."""

from __future__ import annotations

import importlib.resources

import pytest

from agent import scanners
from agent.discover import plugins
from reports.algorithms import AlgorithmTable
from reports.policy import Policy, shipped, shipped_names


@pytest.fixture(params=shipped_names())
def file(request: pytest.FixtureRequest) -> str:
    """The name of each file in turn, without its ending."""
    return str(request.param)


@pytest.fixture
def policy(file: str, table: AlgorithmTable) -> Policy:
    """What it says."""
    return shipped(file, table)


def test_a_policy_is_called_as_its_file(policy: Policy, file: str) -> None:
    """The file name is what the operator writes after --policy."""
    assert policy.name == file


def test_a_policy_opens_with_prose(policy: Policy) -> None:
    """Whoever signs it should be able to read it: what it is for, then what it allows, then the rules."""
    text = importlib.resources.files("reports").joinpath("policies", f"{policy.name}.toml").read_text("utf-8")
    head = text.split("\nname = ")[0]

    assert head.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert "# In short\n" in head


def test_rules_speak_of_sections_that_a_scanner_gives(policy: Policy) -> None:
    """A section that nobody sends would leave the rule unknown on every host."""
    there = set(plugins(scanners))
    asked = {section for rule in policy.rules for section in rule.text.applies_to.sections}

    assert asked - there == set()


def test_rules_are_ordered_by_their_section(policy: Policy) -> None:
    """The report is read beside the issuer's document."""
    sections = [[int(part) for part in rule.text.section.split(".")] for rule in policy.rules]

    assert sections == sorted(sections)


def test_requirements_and_remediations_are_sentences(policy: Policy) -> None:
    """They stand alone in a report."""
    for rule in policy.rules:
        for sentence in (rule.text.requirement, rule.text.remediation):
            assert sentence[0].isupper(), rule.id
            assert sentence.endswith("."), rule.id
