# SPDX-License-Identifier: Apache-2.0
"""How does the agent live on a host for years? It sleeps, and has each round done by a child.

What is resident is this loop. It starts a child when a round is due, ends one that takes too long, and says
how it goes, to people and to systemd. Nothing that a round does can end it, and a signal ends its sleep at
once: all that it reacts to are blocked, and taken where it waits (sigtimedwait(2)), so that there is no
moment at which one could be missed.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent import config, errors
from agent.guard import guest
from agent.host import Host
from agent.serving.job import Job
from agent.serving.schedule import Report, Schedule
from agent.serving.systemd import Notifier
from agent.words import why

_ENDING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)
# To see whether somebody has switched the agent off or on, or the machine was asleep. The switch ends a round
# that is at work sooner.
_TICK_S, _TICK_AT_WORK_S = 60.0, 5.0
# To read a configuration and the agent's own directory, on a host that has no time for it.
_CHECK_S = 120
# A round that is told to end writes down what it has seen, and is killed when that takes longer. Who ends the
# service waits for less than 2 s.
_GRACE_S, _REAP_S = 1.5, 0.3


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done in children, and what the loop does not do itself. A page is a configuration file's."""

    page: config.Page
    """The one to begin with."""
    read: Callable[[], config.Page]
    """The one that is there now. Raises ConfigError."""
    check: Callable[[config.Page], Report]
    attempt: Callable[[config.Page], Report]
    tell: Callable[[str], None]


@dataclass(kw_only=True)
class _Task:
    """A child, and until when it may work."""

    job: Job
    page: config.Page
    time_s: int
    end_s: float
    ended_for: str = ""
    """Why it was told to end."""


class Service:
    """The loop, from its start to the signal that ends it."""

    def __init__(self, work: Work, notifier: Notifier) -> None:
        self._work = work
        self._notifier = notifier
        self._page = work.page
        self._schedule: Schedule | None = None
        self._round_s_max = 0
        self._next_s = 0.0
        self._next_at = ""
        self._check: _Task | None = None
        self._round: _Task | None = None
        self._is_off = False
        self._is_reload_due = False
        self._last = "no round yet"

    def serve(self) -> int:
        """Rounds until SIGTERM or SIGINT, or until there can be none; the exit code."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._start_check(self._page)
            while True:
                taken = signal.sigtimedwait(_SIGNALS, self._pause_s())
                self._notifier.alive()
                number = 0 if taken is None else taken.si_signo
                if number in _ENDING:
                    self._notifier.stopping()
                    self._end_all()
                    self._work.tell("stopped")
                    return errors.EXIT_COMPLETE
                self._is_reload_due |= number == signal.SIGHUP
                code = self._collect()
                if code is not None:
                    return code
                self._tend()
        finally:
            self._end_all()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _pause_s(self) -> float:
        """Until there is something to be done."""
        pauses = [_TICK_AT_WORK_S if self._round else _TICK_S]
        if self._notifier.watchdog_s is not None:
            pauses.append(self._notifier.watchdog_s / 2)
        if self._schedule and not self._round and not self._is_off:
            pauses.append(self._next_s - _passed_s())
        pauses += [task.end_s - _awake_s() for task in (self._check, self._round) if task]
        return max(min(pauses), 0.0)

    # -- the configuration

    def _start_check(self, page: config.Page) -> None:
        job = Job(lambda: self._work.check(page), blocked=_SIGNALS, tell=self._work.tell)
        self._check = _Task(job=job, page=page, time_s=_CHECK_S, end_s=_awake_s() + _CHECK_S)

    def _reload(self) -> None:
        """Read the configuration anew. The old one is used until the new one is known to be good."""
        self._is_reload_due = False
        self._notifier.reloading()
        try:
            self._start_check(self._work.read())
        except errors.ConfigError as error:
            self._keep_old(str(error))
        except OSError as error:
            self._keep_old(why(error))

    def _keep_old(self, why: str) -> None:
        self._work.tell(f"the new configuration is not used, and the old one is: {why}")
        self._notifier.ready()

    def _checked(self, page: config.Page, report: Report) -> int | None:
        """Go on from what the check says; the exit code where there is nothing to go on to."""
        if report.kind != "ready":
            if self._schedule is None:
                self._work.tell(
                    f"the configuration {report.words}" if report.kind == "broken" else report.words
                )
                return report.exit_code or errors.EXIT_FAILURE
            self._keep_old(report.words)
            return None
        self._page, self._round_s_max = page, report.round_s_max
        if self._schedule is None:
            assert report.interval_s is not None
            self._schedule = Schedule(report.interval_s, random.uniform)
            self._wait(report.start_delay_s)
        else:
            self._work.tell("the configuration was read anew, and is used from the next round on")
        self._notifier.ready()
        return None

    # -- rounds

    def _tend(self) -> None:
        """Start what is due, and end what is overdue."""
        self._notice_switch()
        if self._is_reload_due and not self._check:
            self._reload()
        for task in (self._check, self._round):
            if task and _awake_s() >= task.end_s:
                self._end_overdue(task)
        is_due = self._schedule and not self._round and not self._is_off and _passed_s() >= self._next_s
        if is_due:
            self._start_round()
        self._notifier.status(self._status())

    def _start_round(self) -> None:
        page, time_s = self._page, self._round_s_max
        try:
            job = Job(lambda: self._work.attempt(page), blocked=_SIGNALS, tell=self._work.tell)
        except OSError as error:
            self._rounded(Report(kind="broken", words=f"cannot be begun: {why(error)}"))
            return
        self._round = _Task(job=job, page=page, time_s=time_s, end_s=_awake_s() + time_s)

    def _rounded(self, report: Report) -> int | None:
        """Plan the next round by what this one reports; the exit code where there is to be none."""
        assert self._schedule is not None
        if report.kind == "gone":
            return errors.EXIT_FAILURE
        wait_s = self._schedule.after(report)
        self._wait(wait_s)
        words = f"a round {report.words}" if report.kind == "broken" else report.words
        if report.kind == "unreachable":
            words += f"; next try in {wait_s:.0f} s"
        if words and report.kind != "disabled":
            self._last = f"last round ended at {_clock(0)}: {words}"
            self._work.tell(words)
        return None

    def _wait(self, wait_s: float) -> None:
        self._next_s, self._next_at = _passed_s() + wait_s, _clock(wait_s)

    def _collect(self) -> int | None:
        """Take the reports of children that have ended; the exit code where there is nothing to go on to."""
        if self._check and (report := self._check.job.report()):
            task, self._check = self._check, None
            if report.kind == "broken":
                words = f"cannot be read: the process that does {task.ended_for or report.words}"
                report = Report(kind="broken", words=words)
            code = self._checked(task.page, report)
            if code is not None:
                return code
        if self._round and (report := self._round.job.report()):
            task, self._round = self._round, None
            if task.ended_for:
                report = Report(kind="broken", words=task.ended_for)
            return self._rounded(report)
        return None

    def _end_overdue(self, task: _Task) -> None:
        if task.ended_for:
            # It has had its grace. What the kernel does not let go of stays until it does, and nothing else
            # begins meanwhile.
            task.job.end(signal.SIGKILL)
            task.end_s = float("inf")
            return
        task.ended_for = f"did not end within {task.time_s} s, and was ended"
        task.job.end(signal.SIGTERM)
        task.end_s = _awake_s() + _GRACE_S

    # -- the switch

    def _notice_switch(self) -> None:
        reason = guest.switched_off()
        if reason is not None and not self._is_off:
            self._is_off = True
            self._work.tell(f"switched off by {guest.KILL_SWITCH}: {reason}; no rounds until it is removed")
            if self._round and not self._round.ended_for:
                self._round.ended_for = "was ended, because the agent was switched off"
                self._round.job.end(signal.SIGTERM)
                self._round.end_s = _awake_s() + _GRACE_S
        elif reason is None and self._is_off:
            self._is_off = False
            self._work.tell("switched on again")
            if self._schedule and self._next_s <= _passed_s():
                self._wait(self._schedule.when_switched_on())

    # -- the end

    def _end_all(self) -> None:
        """Leave no child, in less than two seconds."""
        left = [task.job for task in (self._check, self._round) if task]
        self._check = self._round = None
        for number, time_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _REAP_S)):
            for job in left:
                job.end(number)
            end_s = _awake_s() + time_s
            while left and (wait_s := end_s - _awake_s()) > 0:
                left = [job for job in left if job.report() is None]
                if left:
                    signal.sigtimedwait((signal.SIGCHLD,), wait_s)

    # -- words

    def _status(self) -> str:
        if self._schedule is None:
            return "reading the configuration"
        if self._is_off:
            return f"switched off by {guest.KILL_SWITCH}; {self._last}"
        if self._round:
            return f"a round is at work; {self._last}"
        return f"next round at {self._next_at}; {self._last}"


def _passed_s() -> float:
    """A clock that goes on while the machine sleeps: after a night a round is overdue."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _awake_s() -> float:
    """A clock that stands still then: a child that slept with the machine has had no time."""
    return time.monotonic()


def _clock(in_s: float) -> str:
    """The wall clock, some seconds from now, as people read it."""
    moment = time.gmtime(Host().now_ns() // 10**9 + round(in_s))
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", moment)
