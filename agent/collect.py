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


def collect(
    host: Host,
    chosen: Mapping[str, ModuleType],
    memory: Memory,
    window_s: int,
    is_unwanted: Callable[[], bool] = bool,
) -> dict[str, Outcome]:
    """Look at the host once, and let the memory see it.

    Args:
        chosen: scanners by name.
        memory: is changed; the caller keeps it.
        window_s: seconds to watch file opens; 0 for not at all.
        is_unwanted: once it says yes, the watching ends early.
    """
    day = today(host)
    outcomes = run_scanners(host, chosen)
    if window_s:
        outcomes[observe.SECTION] = observe.observe(host, window_s, is_unwanted)
    else:
        recalled = memory.recall(observe.SECTION, observe.SPEC, day)
        outcomes[observe.SECTION] = Outcome(spec=observe.SPEC, scan=recalled)
    for name, outcome in outcomes.items():
        was_seen = outcome.scan is not None and (name != observe.SECTION or window_s > 0)
        if outcome.spec.sampled and was_seen and outcome.scan is not None:
            outcomes[name] = replace(outcome, scan=memory.see(name, outcome.spec, outcome.scan, day))
    return outcomes
