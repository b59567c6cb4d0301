# SPDX-License-Identifier: Apache-2.0
"""What is one probe at work? Its object loaded and attached, its ring drained, its losses counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import msgspec

from agent import errors
from agent.host import Host
from agent.kernel import preflight
from agent.kernel.event import (
    COUNTERS,
    EVENT_HEADER,
    FOLD,
    FOLD_KEY,
    Counters,
    MalformedEventError,
    pack_settings,
    total,
)
from agent.kernel.libbpf import BpfError, Library
from agent.kernel.object import BpfObject, load_willing, read_image
from agent.kernel.probes import Event, Probe, Spec, timestamp
from agent.kernel.ring import Ring

RUNG = "libbpf CO-RE"

# A reported event is remembered as long as equal ones may be counted under its key. The kernel's map has
# 16,384 places and forgets the oldest; twice as many here means that none which it still counts is forgotten
# first.
REPORTED_MAX = 2 * 16384


class ProbeStats(msgspec.Struct, kw_only=True, frozen=True):
    """How much one probe saw, and what it did not.

    Attributes:
        probe: its name.
        rung: the method used.
        attached: programs at work.
        refused: programs that are not, and why.
        delivered: events given to the caller, counted ones not included.
        submitted: records that the kernel half put into the ring.
        lost: records that found no place in the ring; `lost_by_cpu` says where.
        missed: calls for which the kernel did not run a program, because another was running on that CPU.
        faulted: calls whose name could not be read.
        malformed: records that were not what this agent expects.
        uncounted: folded events whose count was given up for a newer one's, or never read.
        folded: events that were counted only, because they equal a reported one.
        filtered: calls that passed no filter.
        own: calls of the agent itself.
        foreign: calls from other pid namespaces.
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

    @property
    def unseen(self) -> int:
        """Calls that were not reported or counted and should, or may, have been. Not 0 means: partial."""
        return self.lost + self.missed + self.faulted + self.malformed + self.uncounted


class Source:
    """One probe, attached until `detach`, readable until `close`."""

    def __init__(
        self, host: Host, name: str, probe: ModuleType | Probe, *, is_folding: bool, ring_bytes: int
    ) -> None:
        """Load and attach.

        Raises:
            KernelError: the kernel refused every program.
            AttachError: no program could be attached, or there is no object or no libbpf.
        """
        self.name = name
        self.decode = probe.decode
        spec: Spec = probe.SPEC
        self._is_folding = is_folding and spec.can_fold
        self._delivered = self._malformed = self._recovered = 0
        self._reported: dict[tuple[int, int], Event] = {}
        library = Library.shared()
        image = read_image(name)
        settings = pack_settings(
            spec.names,
            own_tgid=os.getpid(),
            pid_namespace=preflight.own_pid_namespace(host),
            flags_ignored=spec.flags_ignored,
            is_folding=self._is_folding,
        )

        def prepared() -> BpfObject:
            opened = BpfObject(library, name, image)
            opened.set_settings(settings)
            opened.set_ring_bytes(ring_bytes)
            return opened

        try:
            self._object, refused = load_willing(prepared)
        except BpfError as error:
            raise errors.KernelError(f"this kernel refused {name}: {preflight.load_reason(error)}") from error
        self.refused = {program: preflight.load_reason(error) for program, error in refused.items()}
        try:
            self._ring = Ring.map(self._object.map_fd("events"), ring_bytes)
            self._attach(host)
        except OSError as error:
            self._object.close()
            raise errors.KernelError(f"cannot map the ring of {name}: {error.strerror}") from error
        except errors.AttachError:
            self.close()
            raise

    def _attach(self, host: Host) -> None:
        for program in self._object.programs:
            if program in self.refused:
                continue
            try:
                self._object.attach(program)
            except BpfError as error:
                self.refused[program] = preflight.attach_reason(host, error)
        if not self._object.attached:
            reasons = sorted(set(self.refused.values()))
            raise errors.AttachError(f"no program of {self.name} could be attached: {'; '.join(reasons)}")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into the ring since the last drain."""
        return self._ring.is_empty

    def drain(self, wall_offset_ns: int) -> Iterator[Event]:
        """Everything that is in the ring now. A malformed record is counted and skipped."""
        is_more = True
        while is_more:
            records, is_more = self._ring.drain()
            for record in records:
                try:
                    event = self.decode(record, wall_offset_ns)
                except MalformedEventError:
                    self._malformed += 1
                    continue
                if self._is_folding:
                    self._remember(record, event)
                self._delivered += 1
                yield event

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
        for raw_key, value in sorted(self._object.items("folds", FOLD_KEY.size, FOLD.size)):
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
        per_cpu = [
            Counters(*COUNTERS.unpack(value)) for value in self._object.per_cpu("counters", COUNTERS.size)
        ]
        counters = total(per_cpu)
        return ProbeStats(
            probe=self.name,
            rung=RUNG,
            attached=tuple(self._object.attached),
            refused=self.refused,
            delivered=self._delivered,
            submitted=counters.submitted,
            lost=counters.lost,
            lost_by_cpu=tuple(cpu.lost for cpu in per_cpu),
            missed=self._object.missed(),
            faulted=counters.faulted,
            malformed=self._malformed,
            uncounted=counters.folded - self._recovered,
            folded=counters.folded,
            filtered=counters.filtered,
            own=counters.own,
            foreign=counters.foreign,
        )

    def detach(self) -> None:
        """No more events after this; what is in the ring stays."""
        self._object.detach()

    def close(self) -> None:
        """Free everything. Harmless the second time."""
        self._object.close()
        self._ring.close()
