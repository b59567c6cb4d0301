# SPDX-License-Identifier: Apache-2.0
"""How do wanted probes become programs in the kernel? One object for all, set up and loaded once.

That is what `bpf/Makefile` links them to: libbpf reads the kernel's BTF for each object anew, which takes
longer than a probe's own program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import ModuleType

from agent import errors
from agent.kernel import preflight
from agent.kernel.event import NameFilter, Who, pack_settings
from agent.kernel.libbpf import BpfError, Library
from agent.kernel.object import BpfObject, load_willing, read_image
from agent.kernel.probes import Probe, Spec

OBJECT = "monitor"
CALLS = "sys_exit"
"""Not a probe: the program of bpf/sys_exit.bpf.c gives system calls to the probes that want them."""
FOLLOW = "follow"
"""Not a probe: its programs, of bpf/follow.bpf.c, are loaded when descendants are wanted."""


def ring_of(probe: str) -> str:
    """Name of a probe's ring."""
    return f"{probe}_ring"


def programs_of(name: str, programs: Collection[str]) -> set[str]:
    """Which of an object's programs are a probe's: the one of its name, and those that begin with it."""
    return {program for program in programs if program == name or program.startswith(f"{name}_")}


def load(
    wanted: Mapping[str, ModuleType | Probe],
    others: Collection[str],
    who: Who,
    *,
    is_folding: bool,
    ring_bytes: int | None,
) -> tuple[BpfObject, dict[str, str]]:
    """The object with the programs of the wanted probes that this kernel accepts, and why it refused others.

    Args:
        wanted: probes by name.
        others: names of the probes that are not wanted, of which nothing is created.
        who: whose doings are reported.
        is_folding: whether equal events are to be counted, by the probes that can.
        ring_bytes: size of each ring; None is each probe's own choice.

    Raises:
        KernelError: every program was refused.
        AttachError: there is no object or no libbpf.
    """
    library = Library.shared()
    image = read_image(OBJECT)
    specs: dict[str, Spec] = {name: probe.SPEC for name, probe in wanted.items()}
    settings = pack_settings(
        _names(specs.values()),
        who,
        flags_ignored=_flags(specs.values()),
        is_folding=is_folding,
    )

    def prepared() -> BpfObject:
        opened = BpfObject(library, OBJECT, image)
        opened.set_settings(settings)
        for name, spec in specs.items():
            opened.set_entries(ring_of(name), ring_bytes or spec.ring_bytes)
            if spec.can_fold and not is_folding:
                opened.set_entries(f"{name}_folds", 1)
        for name in others:
            opened.leave_out(f"{name}_")
        if not who.is_following:
            opened.set_entries("followed", 1)
        return opened

    chosen = [*wanted]
    if any(spec.calls is not None for spec in specs.values()):
        chosen.append(CALLS)
    if who.is_following:
        chosen.append(FOLLOW)
    try:
        loaded, refused = load_willing(
            prepared, lambda programs: set().union(*(programs_of(name, programs) for name in chosen))
        )
    except BpfError as error:
        raise errors.KernelError(
            f"this kernel refused {', '.join(wanted)}: {preflight.load_reason(error)}"
        ) from error
    reasons = {program: preflight.load_reason(error) for program, error in refused.items()}
    if CALLS in reasons:
        # Without it nobody calls them.
        for name in (name for name, spec in specs.items() if spec.calls is not None):
            for program in programs_of(name, loaded.programs):
                reasons.setdefault(program, reasons[CALLS])
    return loaded, reasons


def _names(specs: Collection[Spec]) -> NameFilter:
    """The kernel half has one filter by names, so one probe at most may go by names."""
    filters = [spec.names for spec in specs if spec.names != NameFilter()]
    assert len(filters) <= 1, "one probe goes by names"
    return filters[0] if filters else NameFilter()


def _flags(specs: Collection[Spec]) -> int:
    return next((spec.flags_ignored for spec in specs if spec.flags_ignored), 0)
