# SPDX-License-Identifier: Apache-2.0
"""Who keeps which rule, as a report? Each rule with its counts, then every finding with its evidence.

The same thing in the same place on many hosts is one row that names them all: what a fleet shares is fixed
once, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from reports.algorithms import AlgorithmTable
from reports.assess import Assessment, Finding
from reports.describe import asset_words, evidence
from reports.document import Document, Fact, Table, columns
from reports.documents import unknown
from reports.judge import Verdict
from reports.policy import SEVERITIES, Policy, Rule

SCHEMA = "cryptofleet.compliance/1"
VERDICTS = ("fail", "warn", "unknown")
_COUNTED: tuple[Verdict, ...] = ("pass", "fail", "warn", "unknown", "not-applicable")
# Hosts named in a cell for people before the rest is counted.
HOSTS_SHOWN_MAX = 3


def compliance_document(assessment: Assessment, table: AlgorithmTable) -> Document:
    """An assessment of a fleet on one day."""
    rules = rules_by_name(assessment.policies)
    named = [finding for finding in assessment.findings if finding.key is not None]
    return Document(
        schema=SCHEMA,
        title="Compliance with " + ", ".join(policy.text.title for policy in assessment.policies),
        facts=(
            Fact(name="at", title="Evaluated for", value=assessment.at),
            Fact(name="hosts", title="Hosts", value=len(assessment.hosts)),
            Fact(
                name="policies", title="Policies", value=tuple(_policy_words(p) for p in assessment.policies)
            ),
            Fact(name="algorithms", title="Algorithm table", value=table.edition),
        ),
        tables=(
            _rules(assessment, rules),
            Table(
                name="findings",
                title="Findings",
                columns=FINDING_COLUMNS,
                rows=finding_rows(named, rules, table),
                empty="Nothing that could be seen goes against a rule.",
            ),
        ),
        unknown=unknown(assessment.gaps),
    )


FINDING_COLUMNS = columns(
    ("verdict", "verdict"),
    ("severity", "severity"),
    ("rule", "rule"),
    ("policy_section", "section"),
    ("hosts_shown", "hosts"),
    ("evidence", "evidence"),
    ("what", "what"),
    ("because", "because"),
    detail=(
        "policy",
        "rules",
        "hosts",
        "section",
        "key",
        "origin",
        "asset",
        "location",
        "from_date",
        "until_date",
        "basis",
        "remediation",
    ),
)


def rules_by_name(policies: Iterable[Policy]) -> dict[tuple[str, str], Rule]:
    """Rules by the names of their policy and their own."""
    return {(policy.name, rule.id): rule for policy in policies for rule in policy.rules}


def finding_rows(
    findings: Iterable[Finding], rules: dict[tuple[str, str], Rule], table: AlgorithmTable
) -> tuple[dict[str, Any], ...]:
    """One row for each thing found, with all hosts it was found on; the worst first.

    Args:
        findings: of one assessment, or of one kind of change.
        rules: `rules_by_name` of the policies they are about.
        table: knows algorithms by the names people use.
    """
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_same(finding, table), []).append(finding)

    def worst_first(members: list[Finding]) -> tuple[object, ...]:
        finding = members[0]
        rule = rules[finding.policy, finding.rule].text
        worst = min(SEVERITIES.index(rules[member.policy, member.rule].text.severity) for member in members)
        return (
            VERDICTS.index(finding.verdict),
            worst,
            finding.policy,
            rule.section,
            finding.key or "",
            finding.host,
        )

    return tuple(_finding_row(members, rules, table) for members in sorted(groups.values(), key=worst_first))


def _same(finding: Finding, table: AlgorithmTable) -> tuple[object, ...]:
    """What findings of one row share. A section that cannot be seen is one row for all rules that need it."""
    about = (finding.policy, finding.section, finding.verdict, finding.because)
    if finding.entry is None:
        return about
    return (
        *about,
        finding.rule,
        finding.key,
        asset_words(finding.entry.asset, table),
        evidence(finding.entry),
    )


def _finding_row(
    members: list[Finding], rules: dict[tuple[str, str], Rule], table: AlgorithmTable
) -> dict[str, Any]:
    first = members[0]
    rule, entry = rules[first.policy, first.rule].text, first.entry
    ids = list(dict.fromkeys(member.rule for member in members))
    hosts = list(dict.fromkeys((member.host, member.host_id) for member in members))
    severities = {rules[member.policy, member.rule].text.severity for member in members}
    return {
        "verdict": first.verdict,
        "severity": min(severities, key=SEVERITIES.index),
        "rule": first.rule if len(ids) == 1 else f"{len(ids)} rules",
        "policy_section": rule.section if len(ids) == 1 else None,
        "hosts_shown": hosts_words([name for name, _ in hosts]),
        "evidence": evidence(entry) if entry else (f"section {first.section}",),
        "what": asset_words(entry.asset, table) if entry else None,
        "because": first.because,
        "policy": first.policy,
        "rules": ids,
        "hosts": [{"host": name, "host_id": host_id} for name, host_id in hosts],
        "section": first.section,
        "key": first.key,
        "origin": first.origin,
        "asset": msgspec.to_builtins(entry.asset) if entry else None,
        "location": msgspec.to_builtins(entry.where) if entry else None,
        "from_date": first.from_date,
        "until_date": first.until_date,
        "basis": rule.basis if len(ids) == 1 else None,
        "remediation": rule.remediation if len(ids) == 1 else None,
    }


def hosts_words(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - HOSTS_SHOWN_MAX
    return ", ".join(names[:HOSTS_SHOWN_MAX]) + (f" and {rest} more" if rest > 0 else "")


def _rules(assessment: Assessment, rules: dict[tuple[str, str], Rule]) -> Table:
    rows: list[dict[str, Any]] = []
    for tally in assessment.tallies:
        rule = rules[tally.policy, tally.rule].text
        row: dict[str, Any] = {
            "policy": tally.policy,
            "policy_section": rule.section,
            "rule": tally.rule,
            "severity": rule.severity,
            "requirement": rule.requirement,
            "things": {verdict: tally.things.get(verdict, 0) for verdict in _COUNTED},
        }
        row |= {f"hosts_{verdict.replace('-', '_')}": tally.hosts.get(verdict, 0) for verdict in _COUNTED}
        rows.append(row)
    return Table(
        name="rules",
        title="Rules, by number of hosts",
        columns=columns(
            ("policy", "policy"),
            ("policy_section", "section"),
            ("rule", "rule"),
            ("severity", "severity"),
            ("hosts_pass", "pass"),
            ("hosts_fail", "fail"),
            ("hosts_warn", "warn"),
            ("hosts_unknown", "unknown"),
            ("hosts_not_applicable", "n/a"),
            detail=("requirement", "things"),
        ),
        rows=tuple(rows),
        empty="No rule was judged.",
    )


def _policy_words(policy: Policy) -> str:
    text = policy.text
    words = f"{text.name} {text.edition}, {text.issuer}, last verified {text.last_verified}"
    return words + (", DRAFT: not in force, its failures are warnings" if policy.is_draft else "")
