# SPDX-License-Identifier: Apache-2.0
"""Which hosts keep which rules on a given day? Where verdicts over things meet the hosts that have them.

Everything that is true of a host and not of a thing is applied here: where the thing stands (vendor or
local), how far the scan got, how long the host has been silent, and whether the policy is in force.

    a failed, absent or missing section   nothing was seen: its rules are unknown for that host, with the
                                          section's reason
    a partial section                     what was found stays found; that nothing else is there is unknown
    a silent host                         everything about it is unknown; what failed when it was last seen is
                                          still named
    a draft policy                        nothing fails it yet: its failures are warnings

A part that a thousand hosts share is opened and judged once.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from agent.model import canonical
from agent.model.inventory import Entry
from reports.coverage import STALE_AFTER_DAYS, Gap, gaps, section_gap, stale_reason
from reports.describe import kind_of
from reports.judge import Judge, Segment, Verdict, at_moment
from reports.policy import Policy, Rule
from reports.view import HostView, Loader, Origin, parts_of

# What a host's verdict is when its things have several: a failure found is a failure; then what could hide
# one; then the rest.
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "unknown", "warn", "pass", "not-applicable")


class Finding(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One verdict that is neither pass nor not-applicable, in one place, with its evidence.

    Attributes:
        host_id: where.
        host: its name.
        policy: whose rule.
        rule: which.
        section: of the inventory.
        verdict: fail, warn or unknown.
        because: what decided it.
        key: of the entry; None when the section as a whole is unknown.
        origin: vendor or local.
        entry: the thing and its circumstance.
        from_date: since when it holds, as far as time decides it.
        until_date: until when.
    """

    host_id: str
    host: str
    policy: str
    rule: str
    section: str
    verdict: Verdict
    because: tuple[str, ...]
    key: str | None = None
    origin: Origin | None = None
    entry: Entry | None = None
    from_date: str | None = None
    until_date: str | None = None


class Tally(Struct, frozen=True, kw_only=True):
    """How one rule fares.

    Attributes:
        policy: whose rule.
        rule: which.
        hosts: how many hosts have each verdict. A host has the worst of its things' verdicts.
        things: how many entries have each verdict, counted on every host.
    """

    policy: str
    rule: str
    hosts: dict[Verdict, int]
    things: dict[Verdict, int]


class Assessment(Struct, frozen=True, kw_only=True):
    """All verdicts over a fleet on one day.

    Attributes:
        at: the evaluation date, a timestamp.
        hosts: identities of all hosts that were judged.
        policies: what they were judged by.
        findings: by policy, rule, host, section and key.
        tallies: by policy and rule.
        gaps: what was not known, by host and section.
    """

    at: str
    hosts: frozenset[str]
    policies: tuple[Policy, ...]
    findings: tuple[Finding, ...]
    tallies: tuple[Tally, ...]
    gaps: tuple[Gap, ...]


@dataclass
class _JudgedPart:
    """One rule over one part: the verdicts that need no evidence as counts, the others with their entries."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    open: list[tuple[Entry, Segment]] = field(default_factory=list)


_Judged = dict[tuple[str, str], _JudgedPart]
"""By digest of the policy and name of the rule."""


@dataclass
class _Bench:
    """What one assessment shares between its hosts."""

    load: Loader
    judge: Judge
    policies: Sequence[Policy]
    at: dt.datetime
    parts: dict[tuple[str, str, Origin], _Judged] = field(default_factory=dict)

    def judged(self, digest: str, section: str, origin: Origin) -> _Judged:
        """Every rule over the entries of one part, which is opened once however many hosts and rules ask."""
        key = (digest, section, origin)
        found = self.parts.get(key)
        if found is None:
            found = self.parts[key] = self._judge(digest, section, origin)
        return found

    def _judge(self, digest: str, section: str, origin: Origin) -> _Judged:
        found: _Judged = {(p.digest, rule.id): _JudgedPart() for p in self.policies for rule in p.rules}
        for entry in self.load(digest):
            kind = kind_of(entry.asset)
            hashes: dict[str, str] = {}
            for policy in self.policies:
                for rule in policy.rules:
                    if not rule.speaks_of(section, kind, origin):
                        continue
                    segment = at_moment(self.judge.timeline(policy, rule, entry, hashes), self.at)
                    judged = found[policy.digest, rule.id]
                    if segment.verdict in {"pass", "not-applicable"}:
                        judged.counts[segment.verdict] += 1
                    else:
                        judged.open.append((entry, segment))
        return found


def assess(
    views: Iterable[HostView],
    load: Loader,
    policies: Sequence[Policy],
    at: dt.datetime,
    *,
    judge: Judge | None = None,
    now: dt.datetime | None = None,
    stale_after_days: int = STALE_AFTER_DAYS,
) -> Assessment:
    """Judge a fleet.

    Args:
        views: the hosts, each once.
        load: opens parts.
        policies: by which to judge.
        at: the evaluation date.
        judge: brings its memo; a new one when None.
        now: the moment the views speak of, where `at` lies later: a forecast asks what today's fleet would be
            worth on that day, and no host is silent for a future that has not come. None means `at`.
        stale_after_days: how many days of silence make a host unknown.
    """
    bench = _Bench(load=load, judge=judge or Judge(), policies=policies, at=at)
    heard = min(at, now or at)
    ordered = sorted(views, key=lambda view: (view.name, view.host_id))
    silences = {view.host_id: stale_reason(view, heard, stale_after_days) for view in ordered}
    asked = {name for policy in policies for rule in policy.rules for name in rule.text.applies_to.sections}
    findings: list[Finding] = []
    tallies: list[Tally] = []
    for policy in policies:
        for rule in policy.rules:
            hosts: Counter[Verdict] = Counter()
            things: Counter[Verdict] = Counter()
            for view in ordered:
                counts, open_ = _on_host(bench, view, policy, rule, silences[view.host_id])
                findings += open_
                things += counts
                things.update(finding.verdict for finding in open_ if finding.key is not None)
                held = set(counts) | {finding.verdict for finding in open_}
                hosts[next((verdict for verdict in _WORST_FIRST if verdict in held), "not-applicable")] += 1
            tallies.append(Tally(policy=policy.name, rule=rule.id, hosts=dict(hosts), things=dict(things)))
    return Assessment(
        at=canonical.timestamp_of(at),
        hosts=frozenset(view.host_id for view in ordered),
        policies=tuple(policies),
        findings=tuple(findings),
        tallies=tuple(tallies),
        gaps=tuple(gap for view in ordered for gap in gaps(view, asked, heard, stale_after_days)),
    )


def _on_host(
    bench: _Bench, view: HostView, policy: Policy, rule: Rule, silence: str | None
) -> tuple[Counter[Verdict], list[Finding]]:
    counts: Counter[Verdict] = Counter()
    open_: list[Finding] = []
    for section in rule.text.applies_to.sections:
        for origin, digest in parts_of(view.sections.get(section)):
            judged = bench.judged(digest, section, origin)[policy.digest, rule.id]
            counts += judged.counts
            open_ += [
                _finding(view, policy, rule, section, origin, entry, segment)
                for entry, segment in judged.open
            ]
        gap = section_gap(view, section)
        if silence is None and gap is not None:
            open_.append(_unseen(view, policy, rule, section, f"{gap.status}: {gap.reason}"))
    if silence is None:
        return counts, open_
    unseen = [_unseen(view, policy, rule, section, silence) for section in rule.text.applies_to.sections]
    return _silent(counts), [_as_it_was(finding, silence) for finding in open_] + unseen


def _unseen(view: HostView, policy: Policy, rule: Rule, section: str, why: str) -> Finding:
    """That there is nothing else in a section is not known."""
    return Finding(
        host_id=view.host_id,
        host=view.name,
        policy=policy.name,
        rule=rule.id,
        section=section,
        verdict="unknown",
        because=(why,),
    )


def _finding(
    view: HostView, policy: Policy, rule: Rule, section: str, origin: Origin, entry: Entry, segment: Segment
) -> Finding:
    verdict, because = segment.verdict, segment.because
    if policy.is_draft and verdict == "fail":
        verdict, because = "warn", (*because, "the policy is a draft and not in force")
    return Finding(
        host_id=view.host_id,
        host=view.name,
        policy=policy.name,
        rule=rule.id,
        section=section,
        verdict=verdict,
        because=because,
        key=entry.key,
        origin=origin,
        entry=entry,
        from_date=segment.from_date,
        until_date=segment.until_date,
    )


def _silent(counts: Counter[Verdict]) -> Counter[Verdict]:
    """Counts of a host that has been silent for too long: what passed then is not known to pass now."""
    known: Counter[Verdict] = Counter()
    known["not-applicable"] = counts["not-applicable"]
    known["unknown"] = counts["pass"]
    return +known


def _as_it_was(finding: Finding, silence: str) -> Finding:
    """A finding of such a host: not known any more, and not forgotten."""
    was = f"it was {finding.verdict} then: {'; '.join(finding.because)}"
    return msgspec.structs.replace(
        finding, verdict="unknown", because=(silence, was), from_date=None, until_date=None
    )
