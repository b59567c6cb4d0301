# SPDX-License-Identifier: Apache-2.0
"""Scanners: one file per kind of thing to look for, each giving one section of the inventory.

The contract. A scanner is a module in this folder. Its file name is its section's name in configuration,
JSON, command line and report; the first sentence of its docstring is its help. It has

    SPEC = Spec(...)                                what it reads, needs and costs
    def scan(host: Host) -> Scan                    the work: pure, given a Host

It raises nothing for things it cannot look at: it counts them with `Scan.skip`. What it does raise makes its
section failed, with the reason, and harms no other. Nothing else has to be edited to add one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent import errors
from agent.host import Host, text
from agent.model import limits
from agent.model.inventory import Entry, SkipReason, Status
from agent.survey.process import Process

# Something was there that we did not see. A vanished thing is not there any more; a malformed one was seen
# for what it is.
_HIDING: tuple[SkipReason, ...] = (
    "denied", "unreadable", "too_large", "budget", "network_fs", "lost", "crashed",
)  # fmt: skip
_WORDS: dict[SkipReason, str] = {
    "denied": "not permitted",
    "unreadable": "not readable",
    "vanished": "gone while looking",
    "too_large": "larger than the limit",
    "malformed": "malformed",
    "budget": "left when the budget was spent",
    "network_fs": "on network file systems, which are never touched",
    "lost": "lost between the kernel and us",
    "crashed": "not read, because reading them ended the process that did",
}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a scanner is, without running it."""

    detector: int
    """Version of its reading of the host: raised when the same host would give other entries."""
    reads: tuple[str, ...]
    """What it looks at, for people: paths or pages of /proc."""
    needs: tuple[str, ...] = ()
    """Capabilities without which it does not see everything, for example CAP_SYS_PTRACE."""
    cost: Literal["low", "medium", "high"] = "low"
    """low: under 50 ms of CPU; medium: under 1 s; high: more, on an ordinary server."""
    sampled: bool = False
    """True: what was seen in use (remembered for some days). False: what is there."""
    default: bool = True
    """Whether it runs when nothing is said."""


@dataclass(kw_only=True)
class Scan:
    """What a scanner found, and what it could not look at."""

    entries: list[Entry] = field(default_factory=list)
    skipped: dict[SkipReason, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    absent: str | None = None
    """Set when there is nothing of this kind to look at on this host: says why."""
    rung: str | None = None
    """The method used, where there are several."""
    rung_reason: str | None = None
    """Why no better method was used."""
    live: dict[str, int] = field(default_factory=dict)
    """Counts true only now; they enter no digest."""
    processes: list[Process] = field(default_factory=list)
    """Processes as they are now, for who asks about this moment; in no inventory."""

    def skip(self, reason: SkipReason, what: str) -> None:
        """Count a thing that was not looked at; the first few are kept as examples."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if reason != "vanished" and len(self.examples) < limits.EXAMPLES_MAX:
            self.examples.append(f"{reason}: {text(what)}"[:300])

    def skip_error(self, error: errors.HostError) -> None:
        """Count what an error of the host means."""
        self.skip(error.skip, error.path)

    @property
    def status(self) -> Status:
        """absent, partial when something is hidden from us, else complete."""
        if self.absent is not None:
            return "absent"
        return "partial" if any(self.skipped.get(reason) for reason in _HIDING) else "complete"

    @property
    def reason(self) -> str | None:
        """Why it is not complete, in words; None where it is."""
        if self.absent is not None:
            return self.absent
        if self.status == "complete":
            return None
        return ", ".join(
            f"{self.skipped[reason]} {_WORDS[reason]}" for reason in _HIDING if self.skipped.get(reason)
        )


class Scanner(Protocol):
    """The shape of a module in this folder."""

    SPEC: Spec

    def scan(self, host: Host) -> Scan:
        """Look at the host."""
        ...
