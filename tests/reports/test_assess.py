# SPDX-License-Identifier: Apache-2.0
"""Does silence ever count as health? Verdicts where they meet hosts."""

from __future__ import annotations

import datetime as dt

import pytest

from agent.model.inventory import Status
from reports.algorithms import AlgorithmTable
from reports.assess import Assessment, Finding, assess
from reports.policy import Policy, read
from reports.view import HostView
from tests.reports.samples import NOW, Fleet, certificate, day, entry, nothing, rsa
from tests.reports.test_policy import HEAD, RULE

EXPIRED = certificate("CN=old.example.com", not_after="2026-10-01T00:00:00.000000Z")
SOUND = certificate()


def judged(
    fleet: Fleet,
    policy: Policy,
    *views: HostView,
    at: dt.datetime = NOW,
    now: dt.datetime | None = None,
    stale_after_days: int = 7,
) -> Assessment:
    """An assessment by one policy."""
    return assess(views, fleet.load, [policy], at, now=now, stale_after_days=stale_after_days)


def hosts(assessment: Assessment, rule: str) -> dict[str, int]:
    """How many hosts have each verdict of a rule."""
    return {
        str(verdict): n
        for tally in assessment.tallies
        if tally.rule == rule
        for verdict, n in tally.hosts.items()
    }


def found(assessment: Assessment, rule: str) -> list[Finding]:
    """The findings of a rule."""
    return [finding for finding in assessment.findings if finding.rule == rule]


def test_a_finding_leads_back_to_the_place_it_was_found_in(fleet: Fleet, hygiene: Policy) -> None:
    """Evidence travels."""
    web = fleet.host(
        "web1", certificates=fleet.section(entry("/etc/ssl/old.pem", EXPIRED)), processes=fleet.section()
    )

    (finding,) = judged(fleet, hygiene, web).findings

    assert (finding.host, finding.rule, finding.verdict) == ("web1", "cert-expired", "fail")
    assert finding.key == "/etc/ssl/old.pem"
    assert finding.origin == "local"
    assert finding.entry is not None
    assert finding.entry.asset == EXPIRED
    assert finding.because == ("asset.not_after is 2026-10-01 00:00:00Z",)
    assert finding.from_date == "2026-10-01T00:00:01.000000Z"


@pytest.mark.parametrize("status", ["failed", "absent"])
def test_a_section_that_was_not_seen_makes_its_rules_unknown(
    fleet: Fleet, hygiene: Policy, status: Status
) -> None:
    """A report must never show green because the agent could not look."""
    # Given a host whose certificate scan failed
    web = fleet.host(
        "web1", certificates=nothing(status=status, reason="no permission"), processes=fleet.section()
    )
    # When it is judged
    assessment = judged(fleet, hygiene, web)
    # Then every rule about certificates is unknown, and the reason is the scan's own
    assert hosts(assessment, "cert-expired") == {"unknown": 1}
    assert found(assessment, "weak-key")[0].because == (f"{status}: no permission",)
    assert hosts(assessment, "library-deleted-still-mapped") == {"not-applicable": 1}
    assert [(gap.section, gap.status, gap.reason) for gap in assessment.gaps] == [
        ("certificates", status, "no permission")
    ]


def test_a_section_that_was_never_sent_makes_its_rules_unknown(fleet: Fleet, hygiene: Policy) -> None:
    """An old agent has not that scanner; that is no health either."""
    assessment = judged(fleet, hygiene, fleet.host("web1", processes=fleet.section()))

    assert hosts(assessment, "cert-expired") == {"unknown": 1}
    assert [gap.status for gap in assessment.gaps] == ["missing"]


def test_in_a_partial_section_a_failure_stays_and_a_pass_does_not(fleet: Fleet, hygiene: Policy) -> None:
    """What was found was found; that nothing else is there, nobody saw."""
    bad = fleet.host(
        "bad", certificates=fleet.section(entry("/a", EXPIRED), entry("/b", SOUND), status="partial")
    )
    good = fleet.host("good", certificates=fleet.section(entry("/b", SOUND), status="partial"))

    assessment = judged(fleet, hygiene, bad, good)

    assert hosts(assessment, "cert-expired") == {"fail": 1, "unknown": 1}
    assert [(f.host, f.key, f.verdict) for f in found(assessment, "cert-expired")] == [
        ("bad", "/a", "fail"),
        ("bad", None, "unknown"),
        ("good", None, "unknown"),
    ]


def test_a_host_that_fell_silent_is_unknown_and_not_forgotten(fleet: Fleet, hygiene: Policy) -> None:
    """Its expired certificate may have been renewed, or not; both would be a guess."""
    section = fleet.section(entry("/a", EXPIRED), entry("/b", SOUND))
    # Given a host that was last heard of nine days ago
    web = fleet.host(
        "web1", last_seen="2026-11-11T11:00:00.000000Z", certificates=section, processes=fleet.section()
    )
    # When it is judged today
    assessment = judged(fleet, hygiene, web)
    # Then nothing passes and nothing fails, and what failed then is still named
    assert hosts(assessment, "cert-expired") == {"unknown": 1}
    named = [f for f in found(assessment, "cert-expired") if f.key]
    assert [(f.key, f.verdict) for f in named] == [("/a", "unknown")]
    assert named[0].because[0] == "last seen 2026-11-11 11:00:00Z, 9 days before"
    assert named[0].because[1].startswith("it was fail then")
    assert assessment.gaps[0].status == "stale"
    things = next(tally.things for tally in assessment.tallies if tally.rule == "cert-expired")
    assert things == {"unknown": 2}


def test_a_host_that_never_posted_is_unknown(fleet: Fleet, hygiene: Policy) -> None:
    """Enrolled and silent is the oldest way to look healthy."""
    assessment = judged(fleet, hygiene, fleet.host("web1", last_seen=None))

    assert {tally.hosts["unknown"] for tally in assessment.tallies} == {1}


def test_silence_counts_from_the_chosen_number_of_days(fleet: Fleet, hygiene: Policy) -> None:
    """Seven days to the second are not yet too many."""
    web = fleet.host(
        "web1", last_seen="2026-11-13T12:00:00.000000Z", certificates=fleet.section(entry("/b", SOUND))
    )

    assert hosts(judged(fleet, hygiene, web), "cert-expired") == {"pass": 1}
    assert hosts(judged(fleet, hygiene, web, stale_after_days=6), "cert-expired") == {"unknown": 1}


def test_a_forecast_does_not_hold_the_future_against_a_host(fleet: Fleet, hygiene: Policy) -> None:
    """In 2031 nobody will have heard of any host since 2026; the question is about the certificates."""
    web = fleet.host("web1", certificates=fleet.section(entry("/b", SOUND)))

    assessment = judged(fleet, hygiene, web, at=day("2031-01-01"), now=NOW)

    assert hosts(assessment, "cert-expired") == {"fail": 1}
    assert assessment.at == "2031-01-01T00:00:00.000000Z"


def test_what_a_package_ships_is_judged_apart_and_only_as_a_warning(fleet: Fleet, hygiene: Policy) -> None:
    """One expired root on every host must not drown the one certificate that somebody has to renew."""
    root = certificate("CN=Old Root", not_after="2020-01-01T00:00:00.000000Z", key=rsa(1024), is_ca=True)
    web = fleet.host(
        "web1", certificates=fleet.section(vendor=(entry("/usr/share/ca-certificates/old.crt", root),))
    )

    assessment = judged(fleet, hygiene, web)

    assert hosts(assessment, "cert-expired") == {"not-applicable": 1}
    assert hosts(assessment, "weak-key") == {"not-applicable": 1}
    assert hosts(assessment, "vendor-cert-expired") == {"warn": 1}
    assert hosts(assessment, "vendor-weak-key") == {"warn": 1}


def test_a_draft_policy_warns_where_it_would_fail(fleet: Fleet, table: AlgorithmTable) -> None:
    """It is not in force."""
    draft = read((HEAD + RULE).replace('status = "final"', 'status = "draft"'), "draft.toml", table)
    web = fleet.host("web1", certificates=fleet.section(entry("/ca", certificate(is_ca=True))))

    (finding,) = judged(fleet, draft, web).findings

    assert finding.verdict == "warn"
    assert finding.because[-1] == "the policy is a draft and not in force"


def test_a_shared_part_is_opened_once_for_all_hosts_and_rules(fleet: Fleet, hygiene: Policy) -> None:
    """Cost grows with distinct content, not with hosts."""
    section = fleet.section(entry("/a", EXPIRED))
    views = [fleet.host(f"web{n}", certificates=section, processes=fleet.section()) for n in range(50)]

    assessment = judged(fleet, hygiene, *views)

    assert hosts(assessment, "cert-expired") == {"fail": 50}
    assert max(fleet.opened.values()) == 1


def test_hosts_are_judged_in_the_order_of_their_names(fleet: Fleet, hygiene: Policy) -> None:
    """Same input, same bytes, whatever order the store gave them in."""
    section = fleet.section(entry("/a", EXPIRED))
    one, two = fleet.host("b", certificates=section), fleet.host("a", certificates=section)

    assert judged(fleet, hygiene, one, two) == judged(fleet, hygiene, two, one)
    assert [f.host for f in found(judged(fleet, hygiene, one, two), "cert-expired")] == ["a", "b"]
