# SPDX-License-Identifier: Apache-2.0
"""When may the agent try again? Delays that keep a fleet from coming back all at once.

Pure: chance is an argument, `random.uniform` or a test's own. The count of failures goes back to 0 at a 2xx
and at nothing less: a collector that accepts connections and fails would otherwise be hammered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""A number between its two arguments, each as likely as the other."""

BASE_S = 5.0
# Half an hour: a fleet is whole again within the hour after an outage of any length.
CAP_S = 1800.0
# Agents that lose one collector lose it in the same second; their first retries are spread over two minutes.
OUTAGE_SPLAY_S = 120.0


def retry_delay_s(failures: int, uniform: Uniform, retry_after_s: int | None = None) -> float:
    """Seconds to wait after `failures` failed attempts in a row (1 or more).

    The whole range from 0 is used and chance comes after the cap, so that delays stay spread however long the
    outage is. What the collector asked for with Retry-After is never undercut, and is spread too: it told all
    of them the same.
    """
    assert failures >= 1
    # The exponent is bounded before the power is taken: a month of failures must not make a number of 1,000
    # digits.
    delay_s = uniform(0.0, min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 32)))
    if failures == 1:
        delay_s += uniform(0.0, OUTAGE_SPLAY_S)
    return delay_s + (retry_after_s or 0)


def start_delay_s(host_id: str, interval_s: int) -> int:
    """Seconds a starting agent waits before its first post: 0 up to the interval, always the same for a host.

    A fleet restarted in one second (a rollout, a power cut) so keeps the spread it had.
    """
    return int.from_bytes(hashlib.sha256(host_id.encode()).digest()[:8]) % max(interval_s, 1)
