# SPDX-License-Identifier: Apache-2.0
"""Is a policy refused as soon as one word of it means nothing?"""

from __future__ import annotations

import pytest

from reports.algorithms import AlgorithmTable
from reports.policy import Policy, PolicyError, read, shipped, shipped_names

HEAD = """
name = "house"
title = "House rules"
issuer = "us"
edition = "1"
source = "here"
last_verified = 2026-11-20
status = "final"
scope = "all"
"""
RULE = """
[[rule]]
id = "no-ca"
section = "1"
requirement = "No CA certificate lies about."
level = "asset"
severity = "low"
applies_to = { sections = ["certificates"], kinds = ["certificate"] }
condition = { field = "asset.is_ca", eq = true }
basis = "taste"
remediation = "Remove it."
"""


def policy(text: str, table: AlgorithmTable) -> Policy:
    """A policy read from a file called house.toml."""
    return read(text, "house.toml", table)


def test_a_policy_is_read_with_its_rules_in_order(table: AlgorithmTable) -> None:
    """The order of the text is the order of the report."""
    two = policy(HEAD + RULE + RULE.replace("no-ca", "a-second"), table)

    assert [rule.id for rule in two.rules] == ["no-ca", "a-second"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("severity = ", "sevrity = "), "rule no-ca.*sevrity.*did you mean 'severity'"),
        (('severity = "low"', 'severity = "lowish"'), "rule no-ca.*lowish"),
        (('status = "final"', 'status = "finall"'), "finall"),
        (("last_verified = 2026-11-20", 'last_verified = "yesterday"'), "last_verified"),
        (("scope = ", "scop = "), "scop.*did you mean 'scope'"),
        (
            ('kinds = ["certificate"]', 'kinds = ["certifcate"]'),
            "rule no-ca.*'certifcate'; did you mean 'certificate'",
        ),
        (('kinds = ["certificate"]', "kinds = []"), "rule no-ca"),
        (("sections = [", "section = ["), "rule no-ca.*section"),
        (('"asset.is_ca"', '"asset.is_caa"'), "rule no-ca: condition: field: .*did you mean 'is_ca'"),
        (('"asset.is_ca", eq = true', '"where.path", present = true'), "begins with 'where'"),
        (('level = "asset"', 'level = "asets"'), "rule no-ca.*asets"),
        (('level = "asset"', 'level = "fleet"'), "level 'fleet' cannot be judged by this version"),
        (('id = "no-ca"', 'id = "No CA"'), "rule No CA"),
        (('basis = "taste"\n', ""), "rule no-ca.*basis"),
        (
            ('severity = "low"', 'severity = "low"\noutcome = "warn"\ndisallowed_from = 2030-01-01'),
            "leave outcome away",
        ),
        (
            (
                'severity = "low"',
                'severity = "low"\ndeprecated_from = 2031-01-01\ndisallowed_from = 2030-01-01',
            ),
            "deprecated_from must come before",
        ),
        (("[[rule]]", "[[rules]]"), "rules.*did you mean 'rule'"),
        (("eq = true", "eq = tru"), "not TOML"),
    ],
)
def test_a_typo_is_refused_with_file_and_rule(
    table: AlgorithmTable, wrong: tuple[str, str], says: str
) -> None:
    """A rule that is silently not applied is worse than none."""
    text = HEAD + RULE
    assert wrong[0] in text

    with pytest.raises(PolicyError, match=f"house.toml.*{says}"):
        policy(text.replace(wrong[0], wrong[1], 1), table)


def test_two_rules_may_not_have_one_name(table: AlgorithmTable) -> None:
    """Verdicts are cached by it: one would answer for the other."""
    with pytest.raises(PolicyError, match="two rules are called 'no-ca'"):
        policy(HEAD + RULE + RULE, table)


def test_an_exemption_is_checked_like_a_condition(table: AlgorithmTable) -> None:
    """An exemption that never holds would be found by an auditor first."""
    exemption = '[[rule.not_applicable]]\nwhen = { field = "asset.sef_issued", eq = true }\nbecause = "x"\n'

    with pytest.raises(
        PolicyError, match=r"rule no-ca: not_applicable\[0\].when: .*did you mean 'self_issued'"
    ):
        policy(HEAD + RULE + exemption, table)


def test_an_entry_rule_may_ask_where_a_thing_stands(table: AlgorithmTable) -> None:
    """Only then: an asset's verdict is shared by every place it stands in."""
    text = (HEAD + RULE).replace('level = "asset"', 'level = "entry"').replace("asset.is_ca", "where.path")

    assert policy(text.replace("eq = true", "present = true"), table).rules[0].text.level == "entry"


def test_the_digest_follows_rules_and_algorithms_but_not_comments(table: AlgorithmTable) -> None:
    """It is the key under which verdicts are kept."""
    one = policy(HEAD + RULE, table)
    same = policy("# a comment\n" + HEAD + RULE, table)
    other_rule = policy(HEAD + RULE.replace("eq = true", "eq = false"), table)
    source = '[source.s]\ntitle = "t"\nwhere = "w"\n'
    other_table = policy(
        HEAD + RULE,
        AlgorithmTable(
            f'edition = "1"\n{source}[[algorithm]]\nname = "a"\nfamily = "f"\nprimitives = ["hash"]\n'
            'sources = ["s"]\nverified = ["cited"]\nquantum_vulnerable = false\n'
        ),
    )

    assert one.digest == same.digest
    assert len({one.digest, other_rule.digest, other_table.digest}) == 3


def test_a_policy_that_does_not_ship_is_refused_with_those_that_do(table: AlgorithmTable) -> None:
    """The operator should not have to look for the list."""
    assert "hygiene" in shipped_names()
    with pytest.raises(PolicyError, match="did you mean 'hygiene'"):
        shipped("hygene", table)
