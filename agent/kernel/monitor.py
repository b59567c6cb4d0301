# SPDX-License-Identifier: Apache-2.0
"""What happens on this host for a limited time? A window over some probes, and an account of losses.

    with open_window(host, duration_s=30) as window:
        for event in window.events():
            ...
        stats = window.stats()

The programs are attached when `open_window` returns. The kernel half wakes nobody: the window looks at the
rings by a timer, which costs the host less than a wake-up for each event, and an event is up to `interval_s`
old when it comes.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NoReturn, Self

import msgspec

from agent import discover, errors
from agent.host import Host
from agent.kernel import loading, preflight, probes
from agent.kernel.event import OWN_MAX, Who
from agent.kernel.libbpf import BpfError
from agent.kernel.object import BpfObject
from agent.kernel.probes import Event
from agent.kernel.probes.lib_load import FileIdentity
from agent.kernel.probes.process_exec import ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.kernel.source import ProbeStats, Source

# 50 looks a second at empty rings cost 0.3 % of one core.
INTERVAL_S = 0.02
# A program takes microseconds; the kernel does not wait for those that run when it detaches.
_LAST_EVENT_S = 0.002
# Programs that were seen to start and not to end; when there are more, the oldest are forgotten.
_STARTED_MAX = 16_384
# The probe whose kernel half can be told what to leave out.
_LOADS = "lib_load"


class Window:
    """Some probes at work until a moment, a number of events, or `stop`.

    A context manager: leaving it detaches and frees.
    """

    def __init__(self, host: Host, sources: Sequence[Source], refused: dict[str, str]) -> None:
        self.refused = refused
        """Probes of which nothing could be attached, and why."""
        self._host = host
        self._sources = sources
        self._is_stopped = False
        self._is_unwanted: Callable[[], bool] = bool  # which says no
        self._clock_offset_ns = preflight.own_clock_offset_ns(host, "monotonic")
        self._end: float | None = None
        self._events_max: int | None = None
        self._interval_s = INTERVAL_S
        self._held: list[tuple[int, Event]] = []
        self._started: dict[tuple[int, int], str] = {}

    def limit(self, duration_s: float | None, events_max: int | None, interval_s: float) -> None:
        """When to end; None means: not by this. The time begins now."""
        self._end = None if duration_s is None else time.monotonic() + duration_s
        self._events_max = events_max
        self._interval_s = interval_s

    def stop_when(self, is_unwanted: Callable[[], bool]) -> None:
        """Have it asked at every look; once it says yes, the window ends as by `stop`."""
        self._is_unwanted = is_unwanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """End at the next look. It only sets a flag, so a signal handler or another thread may call it."""
        self._is_stopped = True

    def events(self) -> Iterator[Event]:
        """Events as they come, in the order of time; what is left in the rings at the end.

        Where equal events were folded, the reported ones come again at the end with the others' count.
        """
        for given, event in enumerate(self._stream(), start=1):
            yield event
            if given == self._events_max:
                self.stop()
                self._detach()
                return

    def disregard(self, file: FileIdentity) -> None:
        """Have the kernel half report no more loads of a file, until it changes. Harmless without lib_load.

        Raises:
            BpfError: the kernel refused.
        """
        for source in self._sources:
            if source.name == _LOADS:
                source.disregard(file.pack())

    def _stream(self) -> Iterator[Event]:
        while not self._is_over():
            rest_s = (
                self._interval_s if self._end is None else min(self._interval_s, self._end - time.monotonic())
            )
            time.sleep(max(0.0, rest_s))
            yield from self._drain()
        self._detach()
        # A program that had begun on another CPU ends within this, and its event is there.
        time.sleep(_LAST_EVENT_S)
        yield from self._drain(is_last=True)
        for source in self._sources:
            yield from source.folds(self._wall_offset_ns())

    def _is_over(self) -> bool:
        if self._is_unwanted():
            self.stop()
        return self._is_stopped or (self._end is not None and time.monotonic() >= self._end)

    def _drain(self, *, is_last: bool = False) -> Iterator[Event]:
        """What is in the rings, in the order of time.

        Each probe has a ring of its own, and one is read after the other. So what happened after this look
        began waits for the next one: something older may still come from a ring that was read before.
        """
        until_ns = time.monotonic_ns() - self._clock_offset_ns
        waiting = [source for source in self._sources if not source.is_empty]
        if not waiting and not self._held:
            return
        # Asked each time: when the wall clock is set, only events not yet read are told by the new one.
        offset_ns = self._wall_offset_ns()
        while waiting:
            more = []
            for source in waiting:
                events, is_more = source.drain(offset_ns)
                self._held += events
                if is_more:
                    more.append(source)
            waiting = more
        if len(self._sources) == 1:
            held, self._held = self._held, []
        else:
            self._held.sort(key=_time_ns)
            known = len(self._held) if is_last else bisect.bisect_right(self._held, until_ns, key=_time_ns)
            held, self._held = self._held[:known], self._held[known:]
        for _, event in held:
            yield self._whole(event)

    def _whole(self, event: Event) -> Event:
        """The event with what only an earlier one knew: before Linux 6.16 a process ends without its exe."""
        process = (event.pid, event.start_ns)
        if isinstance(event, ProcessExec) and event.exe is not None:
            if len(self._started) >= _STARTED_MAX:
                del self._started[next(iter(self._started))]
            self._started[process] = event.exe
        elif isinstance(event, ProcessExit):
            exe = self._started.pop(process, None)
            if event.exe is None and exe is not None:
                return msgspec.structs.replace(event, exe=exe)
        return event

    def _wall_offset_ns(self) -> int:
        """The wall clock minus the clock of the kernel half."""
        samples = []
        for _ in range(3):
            before = time.monotonic_ns()
            wall = self._host.now_ns()
            after = time.monotonic_ns()
            samples.append((after - before, wall - (before + after) // 2))
        # The quickest of three: the others may have been interrupted between the two clocks.
        return min(samples)[1] + self._clock_offset_ns

    def stats(self) -> tuple[ProbeStats, ...]:
        """One account for each probe at work; final once `events` has ended. Before the window is left."""
        return tuple(source.stats() for source in self._sources)

    def _detach(self) -> None:
        for source in self._sources:
            source.detach()

    def close(self) -> None:
        """Detach and free. Harmless the second time."""
        for source in self._sources:
            source.close()


def names() -> tuple[str, ...]:
    """Probes that there are."""
    return tuple(discover.plugins(probes))


def open_window(  # noqa: PLR0913 - what a window is limited by
    host: Host,
    wanted: Sequence[str] | None = None,
    *,
    duration_s: float | None = None,
    events_max: int | None = None,
    pid: int | None = None,
    is_following: bool = False,
    is_family_seen: bool = False,
    is_folding: bool = False,
    ring_bytes: int | None = None,
    interval_s: float = INTERVAL_S,
) -> Window:
    """Load and attach probes, and begin the window.

    Args:
        host: the running host itself; it knows which processes are the agent's own, of which nothing is told.
        wanted: names of probes; None means all.
        duration_s: how long; None means until `stop` or `events_max`.
        events_max: how many events; None means any number.
        pid: only what this process does; the others' calls stay in the kernel.
        is_following: and its descendants, those that it had before and those whose parents have ended since.
        is_family_seen: also what the agent's own descendants do: for who watches what he starts himself.
        is_folding: report equal events once and count the rest in the kernel: for `run`, not for streams.
        ring_bytes: size of each probe's ring, a power of 2; None is what the probe asks for.
        interval_s: time between two looks.

    Raises:
        UsageError: no such probe, or the host is a directory.
        PrivilegeError: the capabilities are missing.
        KernelError: this kernel has no BTF, or refused every probe.
        AttachError: nothing could be attached; the message has every probe's reason.
    """
    found = discover.plugins(probes)
    chosen = tuple(found) if wanted is None else tuple(dict.fromkeys(wanted))
    if unknown := sorted(set(chosen) - set(found)):
        raise errors.UsageError(f"no such probe: {', '.join(unknown)}; there are {', '.join(found)}")
    if host.root != "/":
        raise errors.UsageError(f"only the running host can be monitored, not the directory {host.root}")
    preflight.require_privilege(host)
    preflight.require_kernel(host)
    who = Who(
        own=_own(host),
        is_family_seen=is_family_seen,
        only=pid or 0,
        is_following=is_following and pid is not None,
        pid_namespace=preflight.own_pid_namespace(host),
    )
    loaded, refused = loading.load(
        {name: found[name] for name in chosen},
        set(found) - set(chosen),
        who,
        is_folding=is_folding,
        ring_bytes=ring_bytes,
    )
    sources: list[Source] = []
    failures: dict[str, errors.AgentError] = {}
    try:
        for name in chosen:
            try:
                sources.append(Source(name, found[name], loaded, refused, is_folding=is_folding))
            except (errors.KernelError, errors.AttachError) as error:
                failures[name] = error
        if not sources:
            _raise_all(failures)
        told = {name: str(error) for name, error in failures.items()}
        if who.is_following:
            told |= _follow(loaded, refused)
    except BaseException:
        loaded.close()
        raise
    window = Window(host, sources, told)
    window.limit(duration_s, events_max, interval_s)
    return window


def _own(host: Host) -> tuple[int, ...]:
    """The processes of this run; those beyond what the kernel half can hold descend from one that it can."""
    return (host.own_pid, *sorted(host.own_pids - {host.own_pid}))[:OWN_MAX]


def _follow(loaded: BpfObject, refused: Mapping[str, str]) -> dict[str, str]:
    """Have descendants remembered whose parents end; what does not work, and why."""
    told = {}
    for program in sorted(loading.programs_of(loading.FOLLOW, loaded.programs)):
        if program in refused:
            told[program] = refused[program]
            continue
        try:
            loaded.attach(program)
        except BpfError as error:
            told[program] = error.reason
    return told


def _raise_all(failures: dict[str, errors.AgentError]) -> NoReturn:
    kinds = {type(error) for error in failures.values()}
    kind = errors.KernelError if kinds == {errors.KernelError} else errors.AttachError
    raise kind("; ".join(str(error) for error in failures.values())) from next(iter(failures.values()), None)


def _time_ns(timed: tuple[int, Event]) -> int:
    return timed[0]
