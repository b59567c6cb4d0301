# SPDX-License-Identifier: Apache-2.0
"""How are the system calls reached that Python 3.11 does not offer?

Every function raises OSError with the kernel's errno and a sentence that names the object.
Sources: mount(2), unshare(2), setns(2), pivot_root(2), prctl(2), sethostname(2).
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND = 0x20, 0x1000
MNT_DETACH = 0x2

PR_CAPBSET_DROP = 24

# glibc has no wrapper for pivot_root. Source: arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "s390x": 217, "ppc64le": 203}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount `source` on `target`; an empty `fstype` is for bind mounts and remounts."""
    done = _libc.mount(
        source.encode(),
        target.encode(),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _checked(done, f"mount {fstype or source} on {target}")


def unshare(flags: int) -> None:
    """Give this process new namespaces; a new PID namespace is for its next child."""
    _checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread, and no other, into the namespace behind an open /proc/PID/ns file."""
    _checked(_libc.setns(descriptor, kind), "setns")


def pivot_root_here() -> None:
    """Make the current directory, which must be a mount point, the root; the old root is gone afterwards."""
    # With one name for both, the old root is stacked on the new one and taken off. See pivot_root(2), Notes
    _checked(_libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def set_hostname(name: str) -> None:
    """Name the UTS namespace of this process."""
    _checked(_libc.sethostname(name.encode(), len(name.encode())), f"sethostname {name}")


def drop_capability(number: int) -> None:
    """Take one capability from this process for good: what it executes next cannot have it either."""
    _checked(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), f"prctl drop capability {number}")
