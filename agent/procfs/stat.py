# SPDX-License-Identifier: Apache-2.0
"""What kind of task is it, and what state is it in? One /proc/PID/stat page: bytes in, a record out.

Source: proc_pid_stat(5).
"""

from __future__ import annotations

from dataclasses import dataclass

# include/linux/sched.h: the task belongs to the kernel and has no memory of its own.
_PF_KTHREAD = 0x00200000
# The same: it is about to end.
_PF_EXITING = 0x00000004
# starttime is the page's 22nd field; two stand before the rest.
_START_AT = 19


@dataclass(frozen=True)
class Stat:
    """The fields of the page that we use."""

    pid: int
    name: bytes
    """comm, at most 15 bytes, any bytes: whoever owns the process chose them."""
    state: str
    """One letter: R, S, D, T, t, Z, X, I, P."""
    parent: int
    flags: int
    start_ticks: int = 0
    """When it began, in clock ticks since boot (sysconf(_SC_CLK_TCK)); 0 where a page is cut before it."""

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is a thread of the kernel's own."""
        return bool(self.flags & _PF_KTHREAD)

    @property
    def is_ending(self) -> bool:
        """Whether it is about to end, and may have let go of its memory."""
        return bool(self.flags & _PF_EXITING)

    @property
    def has_ended(self) -> bool:
        """Whether only its exit status is left of it."""
        return self.state in "ZXx"


def parse_stat(page: bytes) -> Stat | None:
    """The record, or None where the page is not of the documented form.

    Args:
        page: the whole page. The name stands in parentheses and may hold spaces, newlines and parentheses
            itself, so its end is the last one of the page.
    """
    before, opened, rest = page.partition(b" (")
    name, closed, after = rest.rpartition(b") ")
    fields = after.split()
    if not (opened and closed) or len(fields) < 7 or not before.isdigit():
        return None
    if len(fields[0]) != 1 or not fields[1].isdigit() or not fields[6].isdigit():
        return None
    start = fields[_START_AT] if len(fields) > _START_AT else b"0"
    return Stat(
        int(before),
        name,
        fields[0].decode("latin-1"),
        int(fields[1]),
        int(fields[6]),
        int(start) if start.isdigit() else 0,
    )
