# SPDX-License-Identifier: Apache-2.0
"""Which system calls does the agent make that Python has no function for?"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import stat
import struct

# From include/uapi/linux/prctl.h.
_PR_SET_PDEATHSIG = 1
# Source: include/uapi/linux/ioprio.h: who is one process, and a class stands above 13 bits of level.
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
_IOPRIO_CLASS_IDLE = 3
# glibc has no wrapper of the first, and one of the second that asks in another way where it cannot ask so.
# The numbers are the architecture's. Sources: arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_STATX = {"x86_64": 332, "aarch64": 291}
# Sources: include/uapi/linux/fcntl.h, include/uapi/linux/stat.h: where stx_mask, stx_mode and the two numbers
# of the device stand in the answer, which has 256 bytes.
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_TYPE = 1
_STATX_ANSWER = struct.Struct("=I24xH106xII112x")


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


def stat_known(fd: int) -> tuple[int, tuple[int, int]] | None:
    """Type and device of an open file, from what this kernel knows of it: no file system is asked (statx(2)).

    Returns:
        The type as in st_mode, and major and minor number; None where the kernel knows or tells nothing.
    """
    number = _STATX.get(os.uname().machine)
    if number is None:
        return None
    answer = ctypes.create_string_buffer(_STATX_ANSWER.size)
    if _libc().syscall(number, fd, b"", _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC, _STATX_TYPE, answer):
        return None
    mask, mode, major, minor = _STATX_ANSWER.unpack(answer.raw)
    return (stat.S_IFMT(mode), (major, minor)) if mask & _STATX_TYPE else None


def set_io_idle() -> bool:
    """Read and write only when nobody else does (ioprio_set(2)); whether the kernel agreed.

    I/O schedulers that know no priorities ignore it.
    """
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is None:
        return False
    priority = _IOPRIO_CLASS_IDLE << _IOPRIO_CLASS_SHIFT
    return bool(_libc().syscall(number, _IOPRIO_WHO_PROCESS, 0, priority) == 0)
