# SPDX-License-Identifier: Apache-2.0
"""Do the reports over the fleet hold what the store holds, on the day they are asked for?"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from reports import formats
from tests.fleet.cli.conftest import Commands, Town, in_days
from tests.reports.test_policy import HEAD, RULE


def hosts(report: Any, rule: str) -> dict[str, int]:  # noqa: ANN401 - a document as JSON
    """How many hosts have each verdict of a rule."""
    (row,) = [row for row in report["tables"]["rules"] if row["rule"] == rule]
    return {name.removeprefix("hosts_"): n for name, n in row.items() if name.startswith("hosts_") and n}


def test_compliance_counts_hosts_and_names_the_evidence(fleet: Commands) -> None:
    """web2 fails, db1 cannot be seen, web1 passes."""
    report = fleet.json("report", "compliance")

    assert hosts(report, "cert-expired") == {"pass": 1, "fail": 1, "unknown": 1}
    finding = next(row for row in report["tables"]["findings"] if row["rule"] == "cert-expired")
    assert [host["host"] for host in finding["hosts"]] == ["web2"]
    assert finding["evidence"] == ["/srv/old.pem"]
    assert finding["remediation"]
    assert report["unknown"][0]["host"] == "db1"


def test_a_date_in_the_future_takes_the_fleet_as_it_is_now(fleet: Commands) -> None:
    """No rescan is needed to know what will have expired."""
    report = fleet.json("report", "compliance", "--as-of", in_days(400))

    assert hosts(report, "cert-expired") == {"fail": 2, "unknown": 1}
    assert report["facts"]["at"] == in_days(400)


def test_a_date_in_the_past_takes_the_fleet_as_it_was(fleet: Commands) -> None:
    """The day before yesterday nobody had the old certificate, and web1 had one that was about to expire."""
    report = fleet.json("report", "compliance", "--as-of", "2d", "--stale-after-days", "100")

    assert hosts(report, "cert-expired") == {"pass": 2, "unknown": 1}
    assert hosts(report, "cert-expiring") == {"pass": 1, "warn": 1, "unknown": 1}


def test_the_difference_of_two_days_tells_new_from_resolved(fleet: Commands) -> None:
    """And what nobody can see any more from both."""
    report = fleet.json("report", "compliance", "--diff", "--since", "5d", "--stale-after-days", "100")

    def told(name: str) -> set[tuple[str, str]]:
        return {(row["rule"], row["hosts"][0]["host"]) for row in report["tables"][name] if row["key"]}

    assert told("new") == {("cert-expired", "web2"), ("weak-key", "web2")}
    assert told("resolved") == {("cert-expiring", "web1")}
    assert report["schema"] == "cryptofleet.compliance-changes/1"


def test_the_inventory_counts_what_the_fleet_holds(fleet: Commands) -> None:
    """Distinct things once, places as often as they are."""
    report = fleet.json("report", "inventory")

    kinds = {(row["section"], row["kind"]): row for row in report["tables"]["kinds"]}
    assert kinds["libraries", "library"] == {
        "section": "libraries",
        "kind": "library",
        "hosts": 3,
        "entries": 3,
        "distinct": 1,
    }
    assert [row["local"] for row in report["tables"]["expiry"]] == [1, 0, 0, 1, 0]
    assert report["unknown"][0]["reason"] == "it broke"


def test_a_policy_of_ones_own_is_judged_like_any_other(fleet: Commands, tmp_path: Path) -> None:
    """By its path."""
    house = tmp_path / "house.toml"
    house.write_text(HEAD + RULE)

    report = fleet.json("report", "compliance", "--policy", str(house), "--policy", "hygiene")

    assert hosts(report, "no-ca") == {"pass": 2, "unknown": 1}
    assert len(report["facts"]["policies"]) == 2


@pytest.mark.parametrize("name", formats.names())
def test_every_report_comes_in_every_format(fleet: Commands, name: str) -> None:
    """The choice is on every command."""
    for command in (("hosts",), ("show", "web1"), ("diff", "web1", "web2"), ("report", "inventory")):
        assert fleet.text(*command, "--format", name)
    assert "old.example.com" in fleet.text("report", "compliance", "--format", name)


def test_csv_of_a_report_is_one_rectangle(fleet: Commands) -> None:
    """With the table named in each row."""
    rows = list(
        csv.DictReader(io.StringIO(fleet.text("report", "compliance", "--format", "csv"), newline=""))
    )

    assert {row["table"] for row in rows} == {"facts", "rules", "findings", "unknown"}


def test_the_same_fleet_gives_the_same_report(fleet: Commands) -> None:
    """Byte for byte, on the same date."""
    for name in formats.names():
        asked = ("report", "compliance", "--as-of", in_days(400), "--format", name)
        assert fleet.text(*asked) == fleet.text(*asked)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ((), 0),
        (("--exit-code",), 3),
        (("--diff", "--since", "5d", "--exit-code"), 3),
        (("--diff", "--since", "5d", "--stale-after-days", "100", "--exit-code"), 3),
        (("--diff", "--since", "1h", "--exit-code"), 0),
        (("--diff",), 2),
        (("--since", "5d"), 2),
        (("--diff", "--since", "2990-01-01"), 2),
        (("--policy", "hygene"), 2),
        (("--policy", "hygiene", "--policy", "hygiene"), 2),
        (("--policy", "./not-there.toml"), 1),
        (("--as-of", "the day after tomorrow"), 2),
    ],
)
def test_exit_codes(fleet: Commands, arguments: tuple[str, ...], exit_code: int) -> None:
    """Findings are no failure of the command; who wants to be told by the exit code asks for it."""
    assert fleet.run("report", "compliance", *arguments).exit_code == exit_code


def test_a_warning_alone_does_not_end_a_pipeline(fleet: Commands, town: Town, tmp_path: Path) -> None:
    """A fleet in which everything passes ends with 0."""
    house = tmp_path / "house.toml"
    rule = RULE.replace('["certificates"]', '["libraries"]').replace('["certificate"]', '["library"]')
    condition = 'condition = { field = "asset.version", eq = "3.0.15" }'
    rule = rule.replace('condition = { field = "asset.is_ca", eq = true }', condition)
    assert condition in rule

    for outcome, exit_code in (("warn", 0), ("fail", 3)):
        house.write_text(HEAD + rule.replace('severity = "low"', f'severity = "low"\noutcome = "{outcome}"'))
        asked = fleet.run("report", "compliance", "--policy", str(house), "--exit-code")
        assert asked.exit_code == exit_code


def test_a_broken_policy_file_is_refused_with_its_name_and_rule(fleet: Commands, tmp_path: Path) -> None:
    """Where to look is half of the repair."""
    house = tmp_path / "house.toml"
    house.write_text((HEAD + RULE).replace("is_ca", "is_caa"))

    result = fleet.run("report", "compliance", "--policy", str(house))

    assert result.exit_code == 1
    assert str(house) in result.stderr
    assert "rule no-ca" in result.stderr
    assert "did you mean 'is_ca'" in result.stderr
