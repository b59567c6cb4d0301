# SPDX-License-Identifier: Apache-2.0
"""When is the next round? What the last one met, and the collector's wishes, as seconds to wait.

Pure: chance is an argument, and there is no clock.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from agent.posting import backoff

# What a collector that always asks for another look gets at most.
RESCAN_S = 60.0
# Another run has just had its time; so often we ask whether it has ended.
BUSY_S = 60.0
# Restarts of a whole fleet are spread over a quarter of an hour, whatever its interval.
START_SPLAY_S_MAX = 900
# Whoever switches a fleet on again does so in one second; its hosts come back over two minutes.
SWITCHED_ON_SPLAY_S = 120.0

Kind = Literal["ready", "done", "unreachable", "failed", "busy", "disabled", "stopped", "gone", "broken"]


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process that did a round, or read the configuration, has to tell.

    Attributes:
        kind: ready: the configuration is good. done: posted. unreachable: to be tried again soon. failed: it
            would fail again. busy: another run was at work. disabled: the agent is switched off. stopped:
            it was told to end. gone: nobody reads standard output any more. broken: it gave no report.
        words: for people, where there is more to say than the round itself has said.
        exit_code: the command's, when there is no service because of it.
        interval_s: between rounds, where the collector said one.
        is_rescan: the collector wants another round at once.
        retry_after_s: the collector wants no round before.
        start_delay_s: before the first round.
        round_s_max: what a round may take.
    """

    kind: Kind
    words: str = ""
    exit_code: int = 0
    interval_s: int | None = None
    is_rescan: bool = False
    retry_after_s: int | None = None
    start_delay_s: int = 0
    round_s_max: int = 0


class Schedule:
    """The rhythm of one host's rounds."""

    def __init__(self, interval_s: int, uniform: backoff.Uniform) -> None:
        """Begin.

        Args:
            interval_s: between rounds, until the collector says another.
            uniform: chance.
        """
        self._interval_s = interval_s
        self._uniform = uniform
        self._failures = 0

    def after(self, report: Report) -> float:
        """Seconds from the end of this round to the next."""
        self._interval_s = report.interval_s or self._interval_s
        if report.kind == "unreachable":
            self._failures += 1
            return backoff.retry_delay_s(self._failures, self._uniform, report.retry_after_s)
        if report.kind == "done":
            self._failures = 0
            return RESCAN_S if report.is_rescan else self._interval_s
        if report.kind == "busy":
            return BUSY_S
        if report.kind == "disabled":
            return 0.0
        return self._interval_s

    def when_switched_on(self) -> float:
        """Seconds from the moment when the agent may look again to the next round."""
        return self._uniform(0.0, SWITCHED_ON_SPLAY_S)
