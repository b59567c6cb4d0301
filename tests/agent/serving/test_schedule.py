# SPDX-License-Identifier: Apache-2.0
"""When the next round is."""

from __future__ import annotations

import random

import pytest

from agent.posting import backoff
from agent.serving import schedule
from agent.serving.schedule import Report, Schedule

HOUR_S = 3600


def latest(_low: float, high: float) -> float:
    """The chance that makes every wait the longest."""
    return high


def earliest(low: float, _high: float) -> float:
    """The chance that makes it the shortest."""
    return low


def test_the_collector_sets_the_pace_and_it_stays_until_it_says_another() -> None:
    """One that says nothing, as a file does, changes nothing."""
    plan = Schedule(HOUR_S, latest)

    assert plan.after(Report(kind="done")) == HOUR_S
    assert plan.after(Report(kind="done", interval_s=600)) == 600
    assert plan.after(Report(kind="done")) == 600


def test_a_rescan_is_soon_and_not_at_once() -> None:
    """A collector that always asks for one must not keep the host busy."""
    plan = Schedule(HOUR_S, latest)

    assert plan.after(Report(kind="done", is_rescan=True)) == schedule.RESCAN_S >= 60
    assert plan.after(Report(kind="done")) == HOUR_S


def test_an_outage_is_met_with_growing_and_spread_delays_and_forgotten_at_the_first_success() -> None:
    """The whole fleet loses its collector in the same second, and finds it again in the same."""
    plan = Schedule(HOUR_S, latest)

    waits = [plan.after(Report(kind="unreachable")) for _ in range(12)]

    assert waits[0] == backoff.BASE_S + backoff.OUTAGE_SPLAY_S
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] == backoff.CAP_S
    assert Schedule(HOUR_S, earliest).after(Report(kind="unreachable")) == 0
    plan.after(Report(kind="done"))
    assert plan.after(Report(kind="unreachable")) == waits[0]


def test_what_the_collector_asks_for_with_retry_after_is_never_undercut() -> None:
    """Whatever chance says."""
    for seed in range(100):
        plan = Schedule(HOUR_S, random.Random(seed).uniform)
        assert plan.after(Report(kind="unreachable", retry_after_s=300)) >= 300


@pytest.mark.parametrize("kind", ["failed", "stopped", "broken"])
def test_what_would_fail_again_is_tried_again_in_its_time(kind: schedule.Kind) -> None:
    """A round that breaks must not be repeated in a circle."""
    assert Schedule(HOUR_S, earliest).after(Report(kind=kind)) == HOUR_S


def test_when_another_run_is_at_work_this_one_comes_a_little_later() -> None:
    """It has waited for the lock already."""
    assert Schedule(HOUR_S, latest).after(Report(kind="busy")) == schedule.BUSY_S


def test_failures_of_other_kinds_do_not_end_an_outage() -> None:
    """Only a 2xx does."""
    plan = Schedule(HOUR_S, latest)
    first, second = plan.after(Report(kind="unreachable")), plan.after(Report(kind="unreachable"))
    others: tuple[schedule.Kind, ...] = ("busy", "failed", "disabled")
    for kind in others:
        plan.after(Report(kind=kind))

    third = plan.after(Report(kind="unreachable"))

    assert third > second
    assert first > backoff.OUTAGE_SPLAY_S


def test_a_fleet_that_is_switched_on_comes_back_spread() -> None:
    """The switch is taken away everywhere in one second."""
    assert Schedule(HOUR_S, earliest).when_switched_on() == 0
    assert Schedule(HOUR_S, latest).when_switched_on() == schedule.SWITCHED_ON_SPLAY_S
