# SPDX-License-Identifier: Apache-2.0
"""What does a look add to what was seen in use before? The sampled sections, by the day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace

from agent import observe
from agent.document import Outcome
from agent.host import Host
from agent.memory import Memory


def today(host: Host) -> dt.date:
    """The day by the host's clock, UTC."""
    return dt.datetime.fromtimestamp(host.now_ns() // 1_000_000_000, dt.UTC).date()


def remember(outcomes: Mapping[str, Outcome], memory: Memory, day: dt.date) -> dict[str, Outcome]:
    """The same outcomes with what was seen in use lately; the observed files also where nobody watched.

    Args:
        memory: is changed; the caller keeps it.
        day: of the look.
    """
    told = {
        name: replace(outcome, scan=memory.see(name, outcome.spec, outcome.scan, day))
        if outcome.spec.sampled and outcome.scan is not None
        else outcome
        for name, outcome in outcomes.items()
    }
    if observe.SECTION not in told:
        recalled = memory.recall(observe.SECTION, observe.SPEC, day)
        told[observe.SECTION] = Outcome(spec=observe.SPEC, scan=recalled)
    return told
