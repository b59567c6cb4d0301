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

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from agent import discover, errors
from agent.host import Host
from agent.kernel import preflight, probes
from agent.kernel.probes import Event
from agent.kernel.source import ProbeStats, Source

# 4 MiB hold 25,000 events of 160 bytes: more than a core can produce between two looks 20 ms apart, even when
# this process is kept waiting for 100 ms. It is kernel memory that cannot be swapped, so it is not larger.
RING_BYTES = 4 * 1024 * 1024
# 50 looks a second at empty rings cost 0.3 % of one core.
INTERVAL_S = 0.02


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
        self._clock_offset_ns = preflight.own_clock_offset_ns(host)
        self._end: float | None = None
        self._events_max: int | None = None
        self._interval_s = INTERVAL_S

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
        """Events as they come, each probe's in the order of its ring; what is left in the rings at the end.

        Where equal events were folded, the reported ones come again at the end with the others' count.
        """
        for given, event in enumerate(self._stream(), start=1):
            yield event
            if given == self._events_max:
                self.stop()
                self._detach()
                return

    def _stream(self) -> Iterator[Event]:
        while not self._is_over():
            rest_s = (
                self._interval_s if self._end is None else min(self._interval_s, self._end - time.monotonic())
            )
            time.sleep(max(0.0, rest_s))
            yield from self._drain()
        self._detach()
        yield from self._drain()
        for source in self._sources:
            yield from source.folds(self._wall_offset_ns())

    def _is_over(self) -> bool:
        if self._is_unwanted():
            self.stop()
        return self._is_stopped or (self._end is not None and time.monotonic() >= self._end)

    def _drain(self) -> Iterator[Event]:
        waiting = [source for source in self._sources if not source.is_empty]
        if not waiting:
            return
        # Asked each time: when the wall clock is set, only events not yet read are told by the new one.
        offset_ns = self._wall_offset_ns()
        for source in waiting:
            yield from source.drain(offset_ns)

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


def open_window(
    host: Host,
    wanted: Sequence[str] | None = None,
    *,
    duration_s: float | None = None,
    events_max: int | None = None,
    is_folding: bool = False,
    ring_bytes: int = RING_BYTES,
    interval_s: float = INTERVAL_S,
) -> Window:
    """Load and attach probes, and begin the window.

    Args:
        host: the running host itself.
        wanted: names of probes; None means all.
        duration_s: how long; None means until `stop` or `events_max`.
        events_max: how many events; None means any number.
        is_folding: report equal events once and count the rest in the kernel: for `run`, not for streams.
        ring_bytes: size of each probe's ring, a power of 2 and at least a page.
        interval_s: time between two looks.

    Raises:
        UsageError: no such probe, or the host is a directory.
        PrivilegeError: the capabilities are missing.
        KernelError: this kernel has no BTF, or refused every probe.
        AttachError: nothing could be attached; the message has every probe's reason.
    """
    found = discover.plugins(probes)
    chosen = tuple(found) if wanted is None else tuple(wanted)
    if unknown := sorted(set(chosen) - set(found)):
        raise errors.UsageError(f"no such probe: {', '.join(unknown)}; there are {', '.join(found)}")
    if host.root != "/":
        raise errors.UsageError(f"only the running host can be monitored, not the directory {host.root}")
    preflight.require_privilege(host)
    preflight.require_kernel(host)
    sources: list[Source] = []
    failures: dict[str, errors.AgentError] = {}
    for name in chosen:
        try:
            sources.append(Source(host, name, found[name], is_folding=is_folding, ring_bytes=ring_bytes))
        except (errors.KernelError, errors.AttachError) as error:
            failures[name] = error
    if not sources:
        kinds = {type(error) for error in failures.values()}
        kind = errors.KernelError if kinds == {errors.KernelError} else errors.AttachError
        raise kind("; ".join(str(error) for error in failures.values())) from next(
            iter(failures.values()), None
        )
    window = Window(host, sources, {name: str(error) for name, error in failures.items()})
    window.limit(duration_s, events_max, interval_s)
    return window
