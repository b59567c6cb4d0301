# SPDX-License-Identifier: Apache-2.0
"""What is one run of the agent? Scanners, perhaps a timed window, and what the sampled sections remember."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType

from agent import observe
from agent.document import Outcome
from agent.host import Host
from agent.memory import Memory
from agent.run import run_scanners


def today(host: Host) -> dt.date:
    """The day by the host's clock, UTC."""
    return dt.datetime.fromtimestamp(host.now_ns() // 1_000_000_000, dt.UTC).date()


def look(
    host: Host,
    chosen: Mapping[str, ModuleType],
    window_s: int,
    is_unwanted: Callable[[], bool] = bool,
) -> dict[str, Outcome]:
    """Look at the host once.

    Args:
        chosen: scanners by name.
        window_s: seconds to watch file opens; 0 for not at all.
        is_unwanted: once it says yes, which `bool` never does, the watching ends early.
    """
    outcomes = run_scanners(host, chosen)
    if window_s:
        outcomes[observe.SECTION] = observe.observe(host, window_s, is_unwanted)
    return outcomes


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
