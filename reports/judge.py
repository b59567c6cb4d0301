# SPDX-License-Identifier: Apache-2.0
"""What is the verdict of one rule over one thing, on any day? A timeline, judged once.

A verdict is piecewise constant in time. So the judge returns all of it at once: segments that follow one
another without a gap, each with the moment from which it holds and the moment at which the next one begins.
One cache then serves today and any other evaluation date, and an expiring certificate needs no new scan.

What a document says nothing of here: how far the host's scan got, which rules the operator has waived,
whether the policy is in force. That is applied where verdicts meet hosts, in `reports.assess`, and never
enters the cache.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import MutableMapping
from typing import Literal

import msgspec
from msgspec import Struct

from agent.model import canonical
from agent.model.inventory import Entry
from reports.condition import Roots
from reports.operators import Answer, whole_second
from reports.policy import Policy, Rule

Verdict = Literal["pass", "fail", "warn", "not-applicable", "unknown"]
# For a timeline without boundaries any moment will do.
_ANY_MOMENT = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_MOMENT = dt.datetime(1, 1, 1, tzinfo=dt.UTC)


class Segment(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One verdict and the time it holds for.

    Attributes:
        verdict: of the rule.
        because: the facts that decided it; for `pass` there are none.
        from_date: timestamp of the first moment it holds; None means it always has.
        until_date: timestamp at which the next segment begins; None means it always will.
    """

    verdict: Verdict
    because: tuple[str, ...] = ()
    from_date: str | None = None
    until_date: str | None = None

    def holds_at(self, at: str) -> bool:
        """Whether a timestamp lies in it."""
        # Timestamps have one width, so that they sort as text.
        return (self.from_date is None or self.from_date <= at) and (
            self.until_date is None or at < self.until_date
        )


Timeline = tuple[Segment, ...]
MemoKey = tuple[str, str, str, str]
"""Level, digest of the input, rule, digest of the policy: everything a timeline depends on."""


def timeline(rule: Rule, roots: Roots) -> Timeline:
    """Every verdict of a rule over one thing, in the order of time and without a gap.

    Args:
        roots: what the rule's level lets it see: `asset`; at level entry also `where` and `key`.
    """
    moments = sorted(set(_boundaries(rule, roots)) - {_FIRST_MOMENT})
    segments = [_judged(rule, roots, moments[0] - dt.timedelta(seconds=1) if moments else _ANY_MOMENT, None)]
    for moment in moments:
        after = _judged(rule, roots, moment, canonical.timestamp_of(moment))
        before = segments[-1]
        if (after.verdict, after.because) != (before.verdict, before.because):
            segments[-1] = msgspec.structs.replace(before, until_date=after.from_date)
            segments.append(after)
    return tuple(segments)


def at_moment(segments: Timeline, at: dt.datetime) -> Segment:
    """The segment that holds at a moment."""
    text = canonical.timestamp_of(whole_second(at))
    return next(segment for segment in segments if segment.holds_at(text))


class Judge:
    """Verdicts by what decided them, each worked out once.

    Args:
        memo: timelines already known; what is worked out is put there. The caller may keep it as long as it
            likes: a key holds everything a timeline depends on.
    """

    def __init__(self, memo: MutableMapping[MemoKey, Timeline] | None = None) -> None:
        self._memo: MutableMapping[MemoKey, Timeline] = {} if memo is None else memo

    def timeline(self, policy: Policy, rule: Rule, entry: Entry, digests: dict[str, str]) -> Timeline:
        """The timeline of a rule over an entry, from the memo where it is there.

        Args:
            digests: of this entry by level, filled as they are needed, so that several rules hash it once.
        """
        level = rule.text.level
        if level not in digests:
            seen = entry.asset if level == "asset" else entry
            digests[level] = canonical.digest(canonical.encode(seen))
        key = (level, digests[level], rule.id, policy.digest)
        found = self._memo.get(key)
        if found is None:
            found = timeline(rule, {"asset": entry.asset, "where": entry.where, "key": entry.key})
            self._memo[key] = found
        return found


def _boundaries(rule: Rule, roots: Roots) -> list[dt.datetime]:
    conditions = [rule.condition, *(exemption.when for exemption in rule.exemptions)]
    if rule.when is not None:
        conditions.append(rule.when)
    moments = [moment for condition in conditions for moment in condition.boundaries(roots)]
    deadlines = (rule.text.deprecated_from, rule.text.disallowed_from)
    return moments + [_midnight(day) for day in deadlines if day is not None]


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def _judged(rule: Rule, roots: Roots, at: dt.datetime, from_date: str | None) -> Segment:
    verdict, because = _verdict(rule, roots, at)
    return Segment(verdict=verdict, because=because, from_date=from_date)


def _verdict(rule: Rule, roots: Roots, at: dt.datetime) -> tuple[Verdict, tuple[str, ...]]:
    undecided: list[Answer] = []
    if rule.when is not None:
        meant = rule.when.answer(roots, at)
        if meant.truth is False:
            return "not-applicable", meant.because
        undecided.append(meant)
    for exemption in rule.exemptions:
        exempt = exemption.when.answer(roots, at)
        if exempt.truth is True:
            return "not-applicable", (exemption.because,)
        undecided.append(exempt)
    against = rule.condition.answer(roots, at)
    if against.truth is False:
        return "pass", ()
    undecided.append(against)
    unknown = tuple(
        dict.fromkeys(why for answer in undecided if answer.truth is None for why in answer.because)
    )
    if any(answer.truth is None for answer in undecided):
        return "unknown", unknown
    return _outcome(rule, against.because, at)


def _outcome(rule: Rule, because: tuple[str, ...], at: dt.datetime) -> tuple[Verdict, tuple[str, ...]]:
    """What it means that something goes against a rule: at once, or by its deadlines."""
    deprecated, disallowed = rule.text.deprecated_from, rule.text.disallowed_from
    if disallowed is None and deprecated is None:
        return rule.text.outcome, because
    if disallowed is not None and at >= _midnight(disallowed):
        return "fail", (*because, f"disallowed from {disallowed}")
    if deprecated is not None and at >= _midnight(deprecated):
        return "warn", (
            *because,
            f"deprecated from {deprecated}" + (f", disallowed from {disallowed}" if disallowed else ""),
        )
    return "pass", ()
