# SPDX-License-Identifier: Apache-2.0
"""Which program was seen using which cryptographic file? One timed window over the kernel, as a section.

Events tell of processes and moments; what is kept tells of executables, units and files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import msgspec

from agent import errors
from agent.document import Outcome
from agent.host import Host
from agent.kernel.fold import Observation, fold
from agent.kernel.monitor import Window, open_window
from agent.kernel.probes import DELETED, Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import FileIdentity
from agent.kernel.source import ProbeStats
from agent.model.asset import FileUse
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.procfs.cgroup import Placement
from agent.scanners import Scan, Spec
from agent.survey.cgroups import CgroupPlacements

SECTION = "observed_files"
PROBE = "file_open"
SPEC = Spec(
    detector=1,
    reads=("open, openat, openat2 and creat of files named like keys and certificates, by eBPF",),
    needs=("CAP_BPF", "CAP_PERFMON"),
    cost="medium",
    sampled=True,
    default=False,
)


class Watch:
    """A window that is open: its events, and what they fold into. A context manager."""

    def __init__(self, host: Host, window: Window, duration_s: float | None = None) -> None:
        self._host = host
        self._window = window
        self._duration_s = duration_s
        self._placements = CgroupPlacements(host)

    def __enter__(self) -> Self:
        self._window.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._window.close()

    def stop(self) -> None:
        """End at the next look; for signal handlers."""
        self._window.stop()

    def stop_when(self, is_unwanted: Callable[[], bool]) -> None:
        """End at the look at which it says yes."""
        self._window.stop_when(is_unwanted)

    @property
    def refused(self) -> dict[str, str]:
        """Probes of which nothing could be attached, and why."""
        return self._window.refused

    def stats(self) -> tuple[ProbeStats, ...]:
        """One account for each probe at work; final once `scan` has ended."""
        return self._window.stats()

    def disregard(self, file: FileIdentity) -> None:
        """Have no more loads of a file reported, until it changes."""
        self._window.disregard(file)

    def placement(self, event: Event) -> Placement:
        """The unit and container of the process that an event tells of."""
        return self._placements.of(event.cgroup_id)

    def show(self, see: Callable[[Event], None]) -> None:
        """Watch until the window is over; every event is shown to `see` as it comes, and none is kept."""
        for event in self._window.events():
            see(event)

    def scan(self, see: Callable[[Event], None] = lambda _event: None) -> Scan:
        """Watch until the window is over; every event is shown to `see` as it comes, opens are folded."""
        labels: dict[str, Placement] = {}

        def label(event: FileOpen) -> str:
            placement = self.placement(event)
            labels[placement.label] = placement
            return placement.label

        folded = fold(self._shown(see), label)
        scan = Scan(entries=[_entry(one, labels[one.unit]) for one in folded.observations])
        self._account(scan, folded.overflow)
        return scan

    def _shown(self, see: Callable[[Event], None]) -> Iterator[FileOpen]:
        for event in self._window.events():
            see(event)
            if isinstance(event, FileOpen):
                # An upgraded program is still that program; its key must not change with it.
                exe = None if event.exe is None else event.exe.removesuffix(DELETED)
                yield msgspec.structs.replace(event, exe=exe)

    def _account(self, scan: Scan, overflow: int) -> None:
        """What the window did not see of opens goes into the coverage."""
        refused = {name: reason for name, reason in self._window.refused.items() if name == PROBE}
        for stats in self._window.stats():
            if stats.probe != PROBE:
                continue
            # Nothing seen in a second says less than nothing seen in an hour.
            asked = "" if self._duration_s is None else f", for {self._duration_s:g} s"
            scan.rung = stats.rung + asked
            refused.update(stats.refused)
            scan.live[f"{stats.probe}_events"] = stats.delivered + stats.folded
            scan.live[f"{stats.probe}_lost"] = stats.unseen
            if stats.unseen:
                scan.skipped["lost"] = scan.skipped.get("lost", 0) + stats.unseen
        if overflow:
            scan.skipped["budget"] = overflow
        if refused:
            scan.rung_reason = "; ".join(f"{name}: {reason}" for name, reason in sorted(refused.items()))


def open_watch(
    host: Host,
    duration_s: float | None,
    *,
    is_folding: bool,
    probes: Sequence[str] = (PROBE,),
    pid: int | None = None,
    is_following: bool = False,
) -> Watch:
    """Attach the probes and begin. With `is_folding` the kernel counts repeated opens and reports one.

    Args:
        duration_s: None is until somebody stops it.
        probes: by name; only opens are folded.
        pid: only what this process does.
        is_following: and what its descendants do.

    Raises:
        PrivilegeError, KernelError, AttachError: nothing can be watched; the message says why and what to do.
    """
    window = open_window(
        host, probes, duration_s=duration_s, pid=pid, is_following=is_following, is_folding=is_folding
    )
    return Watch(host, window, duration_s)


def observe(host: Host, duration_s: float, is_unwanted: Callable[[], bool] = bool) -> Outcome:
    """One window as a section's outcome: a kernel that refuses is a failed section with its reason.

    Once `is_unwanted` says yes, which `bool` never does, the window ends early.
    """
    try:
        with open_watch(host, duration_s, is_folding=True) as watch:
            watch.stop_when(is_unwanted)
            return Outcome(spec=SPEC, scan=watch.scan())
    except errors.AgentError as error:
        return Outcome(spec=SPEC, failure=str(error))


def _entry(one: Observation, placement: Placement) -> Entry:
    access = (("read",) if one.is_read else ()) + (("write",) if one.is_written else ())
    return Entry(
        key=f"{one.exe} {one.unit} {one.file}",
        asset=FileUse(access=access, results=tuple(sorted(one.outcomes))),
        where=Location(path=one.file, exe=one.exe, unit=placement.unit, container=placement.container),
    )
