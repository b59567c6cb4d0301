# SPDX-License-Identifier: Apache-2.0
"""What is one probe at work? Its program attached, its ring drained, its losses counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

import msgspec

from agent import errors
from agent.kernel.event import (
    COUNTERS,
    EVENT_HEADER,
    FOLD,
    FOLD_KEY,
    Counters,
    MalformedEventError,
    total,
)
from agent.kernel.libbpf import BpfError
from agent.kernel.loading import CALLS, programs_of, ring_of
from agent.kernel.object import BpfObject
from agent.kernel.probes import Event, Probe, Spec, timestamp
from agent.kernel.ring import Ring

RUNG = "libbpf CO-RE"

# A reported event is remembered as long as equal ones may be counted under its key. The kernel's map has
# 16,384 places and forgets the oldest; twice as many here means that none which it still counts is forgotten
# first.
REPORTED_MAX = 2 * 16384
# The value under every key of a map that is only asked whether a key is there.
_YES = (1).to_bytes(4, sys.byteorder)


class ProbeStats(msgspec.Struct, kw_only=True, frozen=True):
    """How much one probe saw, and what it did not.

    Attributes:
        probe: its name.
        rung: the method used.
        attached: programs at work.
        refused: programs that are not, and why.
        delivered: events read from the ring and decoded, counted ones not included.
        submitted: records that the kernel half put into the ring.
        lost: records that found no place in the ring; `lost_by_cpu` says where.
        missed: calls for which the kernel did not run a program, because another was running on that CPU.
        faulted: calls of which the name, or the file, could not be read.
        malformed: records that were not what this agent expects.
        uncounted: folded events whose count was given up for a newer one's, or never read.
        folded: events that were counted only, because they equal a reported one.
        filtered: calls that passed no filter.
        own: calls of the agent itself and, where they are not wanted, its descendants.
        foreign: calls from other pid namespaces.
        repeated: calls that were reported of the same process before, where once is enough.
    """

    probe: str
    rung: str
    attached: tuple[str, ...]
    refused: dict[str, str]
    delivered: int
    submitted: int
    lost: int
    lost_by_cpu: tuple[int, ...]
    missed: int
    faulted: int
    malformed: int
    uncounted: int
    folded: int
    filtered: int
    own: int
    foreign: int
    repeated: int = 0

    @property
    def unseen(self) -> int:
        """Calls that were not reported or counted and should, or may, have been. Not 0 means: partial."""
        return self.lost + self.missed + self.faulted + self.malformed + self.uncounted


class Source:
    """One probe, attached until `detach`, readable until `close`."""

    def __init__(
        self,
        name: str,
        probe: ModuleType | Probe,
        loaded: BpfObject,
        refused: Mapping[str, str],
        *,
        is_folding: bool,
    ) -> None:
        """Attach.

        Args:
            name: of the probe.
            probe: itself.
            loaded: the object with its programs; shared with the other probes of the window.
            refused: programs of the object that were not loaded, and why.
            is_folding: whether equal events are counted.

        Raises:
            KernelError: all its programs were refused, or its ring cannot be mapped.
            AttachError: none could be attached.
        """
        programs = programs_of(name, loaded.programs)
        self.refused = {program: refused[program] for program in sorted(programs) if program in refused}
        if programs == set(self.refused):
            reasons = sorted(set(self.refused.values()))
            raise errors.KernelError(f"this kernel refused {name}: {'; '.join(reasons)}")
        self.name = name
        self.decode = probe.decode
        self._spec: Spec = probe.SPEC
        self._is_folding = is_folding and self._spec.can_fold
        self._delivered = self._malformed = self._recovered = 0
        self._reported: dict[tuple[int, int], Event] = {}
        self._object = loaded
        self._attached: list[str] = []
        ring = ring_of(name)
        try:
            self._ring = Ring.map(loaded.map_fd(ring), loaded.entries(ring))
        except OSError as error:
            raise errors.KernelError(f"cannot map the ring of {name}: {error.strerror}") from error
        try:
            self._attach(programs - set(refused))
        except errors.AgentError:
            self._ring.close()
            raise

    def _attach(self, programs: set[str]) -> None:
        for program in sorted(programs):
            try:
                if self._spec.calls is None:
                    self._object.attach(program)
                else:
                    self._object.plug(program, "calls", self._spec.calls)
                    self._object.attach_once(CALLS)
                self._attached.append(program)
            except BpfError as error:
                self.refused[program] = error.reason
        if not self._attached:
            reasons = sorted(set(self.refused.values()))
            raise errors.AttachError(f"{self.name} could not be attached: {'; '.join(reasons)}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into the ring since the last drain."""
        return self._ring.is_empty

    def drain(self, wall_offset_ns: int) -> tuple[list[tuple[int, Event]], bool]:
        """What is in the ring now, and whether it was too much for once. A malformed record is counted.

        Returns:
            Events, oldest first, each with its time by the kernel half's clock.
        """
        records, is_more = self._ring.drain()
        events = []
        for record in records:
            try:
                event = self.decode(record, wall_offset_ns)
            except MalformedEventError:
                self._malformed += 1
                continue
            if self._is_folding:
                self._remember(record, event)
            events.append((int.from_bytes(record[:8], sys.byteorder), event))
        self._delivered += len(events)
        return events, is_more

    def _remember(self, record: bytes, event: Event) -> None:
        key, tgid = EVENT_HEADER.unpack_from(record)[3:5]
        if key and (len(self._reported) < REPORTED_MAX or (key, tgid) in self._reported):
            self._reported[key, tgid] = event

    def folds(self, wall_offset_ns: int) -> Iterator[Event]:
        """Reported events again, with the count and the last time of those that equalled them.

        To be called once, after `detach` and the last drain.
        """
        if not self._is_folding:
            return
        for raw_key, value in sorted(self._object.items(f"{self.name}_folds", FOLD_KEY.size, FOLD.size)):
            key, tgid, _ = FOLD_KEY.unpack(raw_key)
            count, last_ns = FOLD.unpack(value)
            event = self._reported.pop((key, tgid), None)
            if count and event is not None:
                self._recovered += count
                yield msgspec.structs.replace(
                    event, count=count, timestamp=timestamp(last_ns + wall_offset_ns)
                )

    def stats(self) -> ProbeStats:
        """What was seen and what was not, so far. Raises BpfError."""
        # The kernel counts for the program that it ran, which then called the other.
        running = self._attached if self._spec.calls is None else [CALLS]
        per_cpu = [
            Counters(*COUNTERS.unpack(value))
            for value in self._object.per_cpu("counters", COUNTERS.size, self._spec.event)
        ]
        counters = total(per_cpu)
        return ProbeStats(
            probe=self.name,
            rung=RUNG,
            attached=tuple(self._attached),
            refused=self.refused,
            delivered=self._delivered,
            submitted=counters.submitted,
            lost=counters.lost,
            lost_by_cpu=tuple(cpu.lost for cpu in per_cpu),
            missed=sum(map(self._object.missed, running)),
            faulted=counters.faulted,
            malformed=self._malformed,
            uncounted=counters.folded - self._recovered,
            folded=counters.folded,
            filtered=counters.filtered,
            own=counters.own,
            foreign=counters.foreign,
            repeated=counters.repeated,
        )

    def disregard(self, key: bytes) -> None:
        """Have the kernel half report no more of what it knows by this key. Raises BpfError."""
        self._object.put(f"{self.name}_boring", key, _YES)

    def detach(self) -> None:
        """No more events after this, of any probe of the window; what is in the ring stays."""
        self._object.detach()

    def close(self) -> None:
        """Free everything. Harmless the second time."""
        self._object.close()
        self._ring.close()
