# SPDX-License-Identifier: Apache-2.0
"""Delays that keep a fleet from coming back all at once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.posting import backoff


def lowest(low: float, _high: float) -> float:
    """The luckiest draw."""
    return low


def highest(_low: float, high: float) -> float:
    """The unluckiest draw."""
    return high


@pytest.mark.parametrize(
    ("failures", "longest_s"),
    [(1, 5 + 120), (2, 10), (3, 20), (4, 40), (9, 1280), (10, 1800), (11, 1800), (10_000, 1800)],
)
def test_the_range_doubles_up_to_half_an_hour_and_always_begins_at_zero(
    failures: int, longest_s: float
) -> None:
    """The first retry has two minutes more: all agents lose a collector in the same second."""
    assert backoff.retry_delay_s(failures, highest) == longest_s
    assert backoff.retry_delay_s(failures, lowest) == 0


@given(st.integers(1, 10**9), st.integers(0, 86_400), st.randoms(use_true_random=False))
def test_retry_after_is_never_undercut(failures: int, retry_after_s: int, chance: random.Random) -> None:
    """And is spread like any other wait: the collector told all of them the same number."""
    delay_s = backoff.retry_delay_s(failures, chance.uniform, retry_after_s)

    assert retry_after_s <= delay_s <= retry_after_s + backoff.CAP_S + backoff.OUTAGE_SPLAY_S


def test_a_fleet_at_the_cap_stays_spread() -> None:
    """The range of chance must not shrink to nothing once the cap is reached."""
    chance = random.Random(1)

    delays = sorted(backoff.retry_delay_s(40, chance.uniform) for _ in range(10_000))
    # No tenth of the half hour gets more than an eighth of the fleet.
    busiest = max(sum(1 for delay in delays if low <= delay < low + 180) for low in range(0, 1800, 180))
    assert busiest < 1250


def test_starting_hosts_are_spread_over_the_interval_each_at_its_own_place() -> None:
    """A restart of the whole fleet keeps the spread it had."""
    ids = [f"h-{number:032x}" for number in range(1000)]

    delays = [backoff.start_delay_s(host_id, 3600) for host_id in ids]
    assert delays == [backoff.start_delay_s(host_id, 3600) for host_id in ids]
    assert all(0 <= delay < 3600 for delay in delays)
    busiest = max(sum(1 for delay in delays if low <= delay < low + 360) for low in range(0, 3600, 360))
    assert busiest < 150
    assert backoff.start_delay_s(ids[0], 0) == 0
