# SPDX-License-Identifier: Apache-2.0
"""May the agent look at this host now, and how much may it take? A switch, one lock, the end of every queue.

The switch is a file of the operator's: while it is there, nothing is looked at. A scan holds the lock and
takes what others leave. What only waits for events, and loses them when it comes late, does neither.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from agent import errors
from agent.guard import lock, syscalls
from agent.words import plain, why

KILL_SWITCH = "/etc/cryptofleet/disabled"
_REASON_CHARS_MAX = 200
# The kernel's lowest (setpriority(2)).
_NICE_MAX = 19


def switched_off() -> str | None:
    """Why the agent is switched off here, in the operator's words; None where it is not.

    A switch that we may not see, because its directory is closed to us, is none.
    """
    try:
        found = os.lstat(KILL_SWITCH)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        # What cannot be looked up may be there: in doubt the host is left alone.
        return f"it cannot be looked up: {why(error)}"
    if not stat.S_ISREG(found.st_mode):
        return "no reason given"
    try:
        fd = os.open(KILL_SWITCH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "no reason that we may read"
    try:
        page = os.read(fd, 4 * _REASON_CHARS_MAX).decode(errors="replace")
    except OSError:
        return "no reason that we can read"
    finally:
        os.close(fd)
    line = page.partition("\n")[0].strip()
    return plain(line[:_REASON_CHARS_MAX]) or "no reason given"


def check_enabled() -> None:
    """Go on only where the operator has not switched the agent off.

    Raises:
        DisabledError: it is switched off; with the first line of the switch as the reason.
    """
    reason = switched_off()
    if reason is not None:
        raise errors.DisabledError(
            f"the agent is switched off on this host by {KILL_SWITCH}: {reason};"
            f" remove that file to switch it on again"
        )


def _silent(_words: str) -> None:
    """Nobody wants to know."""


@contextmanager
def admit(
    *,
    exclusive: bool,
    wait_s: float = 60,
    background: bool = False,
    tell: Callable[[str], None] = _silent,
) -> Iterator[None]:
    """Look at the host within this block, or not at all. Not to be nested.

    Args:
        exclusive: this is a scan: one at a time, and behind everybody else.
        wait_s: for another scan to end.
        background: nobody waits for the answer, so even the disk is asked last.
        tell: is given words for people: whom we wait for, or why there is no lock.

    Raises:
        DisabledError: the operator has switched the agent off.
        BusyError: another scan is still at work.
    """
    check_enabled()
    if not exclusive:
        yield
        return
    with lock.held(wait_s, tell):
        # It may have been switched off while we waited.
        check_enabled()
        with _last_in_line(background=background):
            yield


@contextmanager
def _last_in_line(*, background: bool) -> Iterator[None]:
    """Take what others leave: of the CPU, and with it of the disk.

    Nice 19, and SCHED_BATCH, which never preempts whoever runs. Not SCHED_IDLE: a look at a process holds a
    lock on its memory for moments (proc(5), maps), and a holder that gets no CPU would make the process wait.
    The disk follows the CPU to the lowest of the ordinary places (ioprio_set(2)); who waits for an answer
    stays there, because the idle class may get nothing for as long as anybody else reads.
    """
    was_nice = os.getpriority(os.PRIO_PROCESS, 0)
    was_policy, was_param = os.sched_getscheduler(0), os.sched_getparam(0)
    # A sandbox may refuse; to be polite needs no success.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(was_nice, _NICE_MAX))
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if background:
        syscalls.set_io_idle()
    try:
        yield
    finally:
        # Only the privileged may step forward again (RLIMIT_NICE); others end soon anyway.
        with suppress(OSError):
            os.sched_setscheduler(0, was_policy, was_param)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, was_nice)
