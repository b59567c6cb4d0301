# SPDX-License-Identifier: Apache-2.0
"""Which system calls does the agent make that Python has no function for?"""

from __future__ import annotations

import ctypes
import functools
import os
import signal

# From include/uapi/linux/prctl.h.
_PR_SET_PDEATHSIG = 1
# Source: include/uapi/linux/ioprio.h: who is one process, and a class stands above 13 bits of level.
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
_IOPRIO_CLASS_IDLE = 3
# glibc has no wrapper; the numbers are the architecture's. Sources: arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, however it ends (PR_SET_PDEATHSIG, prctl(2)). For a new child.

    Args:
        parent: its pid, asked before the fork.
    """
    _libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # It may have ended before the kernel was asked to tell.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def set_io_idle() -> bool:
    """Read and write only when nobody else does (ioprio_set(2)); whether the kernel agreed.

    I/O schedulers that know no priorities ignore it.
    """
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is None:
        return False
    priority = _IOPRIO_CLASS_IDLE << _IOPRIO_CLASS_SHIFT
    return bool(_libc().syscall(number, _IOPRIO_WHO_PROCESS, 0, priority) == 0)
