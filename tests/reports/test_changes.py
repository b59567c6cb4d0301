# SPDX-License-Identifier: Apache-2.0
"""Is a finding called resolved only when somebody looked and it was gone?"""

from __future__ import annotations

import datetime as dt

from agent.model.inventory import SectionState
from reports.assess import Assessment, assess
from reports.changes import FindingChange, changes
from reports.policy import Policy
from reports.view import HostView
from tests.reports.samples import NOW, Fleet, certificate, day, entry, nothing

EXPIRED = certificate("CN=old", not_after="2026-10-01T00:00:00.000000Z")
SOUND = certificate()
FAILED = nothing(status="failed", reason="it broke")


def at(fleet: Fleet, policy: Policy, *views: HostView, when: dt.datetime = NOW) -> Assessment:
    """An assessment."""
    return assess(views, fleet.load, [policy], when)


def told(found: tuple[FindingChange, ...], rule: str = "cert-expired") -> list[tuple[str, str | None]]:
    """Kind of change and entry of one rule's findings."""
    return [(change.change, change.finding.key) for change in found if change.finding.rule == rule]


def host(fleet: Fleet, section: SectionState, name: str = "web1") -> HostView:
    """A host of which only the certificates matter."""
    return fleet.host(name, certificates=section, processes=fleet.section())


def test_new_resolved_and_still_open(fleet: Fleet, hygiene: Policy) -> None:
    """The three that everybody expects."""
    before = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED), entry("/b", EXPIRED))))
    after = at(fleet, hygiene, host(fleet, fleet.section(entry("/b", EXPIRED), entry("/c", EXPIRED))))

    assert sorted(told(changes(before, after))) == [("new", "/c"), ("resolved", "/a"), ("still-open", "/b")]


def test_a_renewed_certificate_is_resolved(fleet: Fleet, hygiene: Policy) -> None:
    """The place is the same, the thing passes."""
    before = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))
    after = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", SOUND))))

    assert told(changes(before, after)) == [("resolved", "/a")]


def test_a_finding_that_nobody_could_look_for_became_unknown(fleet: Fleet, hygiene: Policy) -> None:
    """A broken scan must not close a ticket."""
    before = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))
    after = at(fleet, hygiene, host(fleet, FAILED))

    found = changes(before, after)

    assert sorted(told(found), key=str) == [("became-unknown", "/a"), ("became-unknown", None)]
    named = next(change for change in found if change.finding.key == "/a")
    assert named.because == ("failed: it broke",)


def test_a_host_that_left_the_fleet_did_not_mend_its_findings(fleet: Fleet, hygiene: Policy) -> None:
    """Whoever turns off the host turns off the finding: that is for a person to decide."""
    before = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))

    assert told(changes(before, at(fleet, hygiene))) == [("became-unknown", "/a")]


def test_a_host_that_joined_the_fleet_brings_new_findings(fleet: Fleet, hygiene: Policy) -> None:
    """Nobody knew it before."""
    after = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))

    assert told(changes(at(fleet, hygiene), after)) == [("new", "/a")]


def test_a_section_that_can_be_seen_again_became_known(fleet: Fleet, hygiene: Policy) -> None:
    """What it shows may have been there all along."""
    before = at(fleet, hygiene, host(fleet, FAILED))
    after = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))

    assert sorted(told(changes(before, after)), key=str) == [("became-known", "/a"), ("became-known", None)]


def test_what_stays_unknown_is_said_to_stay_unknown(fleet: Fleet, hygiene: Policy) -> None:
    """No news is no health."""
    before = at(fleet, hygiene, host(fleet, FAILED))

    assert told(changes(before, before)) == [("still-unknown", None)]


def test_a_host_that_fell_silent_makes_its_findings_unknown(fleet: Fleet, hygiene: Policy) -> None:
    """The same content, seven days older."""
    web = host(fleet, fleet.section(entry("/a", EXPIRED)))

    found = changes(at(fleet, hygiene, web), at(fleet, hygiene, web, when=day("2026-12-10")))

    assert sorted(told(found), key=str) == [("became-unknown", "/a"), ("became-unknown", None)]


def test_time_alone_makes_a_finding_new(fleet: Fleet, hygiene: Policy) -> None:
    """Nothing changed on the host; the certificate expired."""
    soon = certificate(not_after="2026-11-21T00:00:00.000000Z")
    web = host(fleet, fleet.section(entry("/a", soon)))

    found = changes(at(fleet, hygiene, web), at(fleet, hygiene, web, when=day("2026-11-22")))

    assert told(found) == [("new", "/a")]
    assert told(found, "cert-expiring") == [("resolved", "/a")]


def test_no_change_between_an_assessment_and_itself_but_what_is_open(fleet: Fleet, hygiene: Policy) -> None:
    """Nothing is new, nothing resolved."""
    one = at(fleet, hygiene, host(fleet, fleet.section(entry("/a", EXPIRED))))

    assert {change.change for change in changes(one, one)} == {"still-open"}
