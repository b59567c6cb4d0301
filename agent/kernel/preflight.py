# SPDX-License-Identifier: Apache-2.0
"""Can this process attach BPF programs on this host, and if not, what is missing and what has to be done?

The agent changes nothing on its host to make it work: it mounts nothing and raises no limit, it says what to
do.
"""

from __future__ import annotations

import errno
import os
from typing import Literal

from agent import errors
from agent.host import Host
from agent.kernel.libbpf import BpfError
from agent.procfs.status import parse_privileges

BTF = "/sys/kernel/btf/vmlinux"

# The inode of the first pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
INITIAL_PID_NAMESPACE = 0xEFFFFFFC
# What `own_pid_namespace` says in that one, which sees all others.
ALL_PID_NAMESPACES = (0, 0)


def require_privilege(host: Host) -> None:
    """Check that this process may load tracing programs: with CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.

    Raises:
        PrivilegeError: it may not (EPERM).
    """
    held = parse_privileges(host.read("/proc/self/status"))
    missing = [name for name in ("CAP_BPF", "CAP_PERFMON") if held is None or not held.may(name)]
    if not missing or (held is not None and held.may("CAP_SYS_ADMIN")):
        return
    raise errors.PrivilegeError(
        f"cannot load BPF programs: EPERM, this process lacks {' and '.join(missing)}; "
        "run it as root, or grant CAP_BPF and CAP_PERFMON"
    )


def require_kernel(host: Host) -> None:
    """Check that the kernel describes its own types, by which the objects are adjusted to it.

    Raises:
        KernelError: it does not.
    """
    if not host.exists(BTF):
        raise errors.KernelError(
            f"cannot load BPF programs: this kernel has no {BTF} (built without CONFIG_DEBUG_INFO_BTF); "
            "kernels of Debian 11, RHEL 8.2, Ubuntu 20.10 and later have it"
        )


def load_reason(error: BpfError) -> str:
    """Why the kernel refused a program, and where that is not in its own words, what may be behind it."""
    if error.number == errno.EPERM:
        # With the capabilities at hand, only these three are left; the kernel does not say which.
        return (
            f"{error.reason} (refused by lockdown, a seccomp profile, or because this is a container's root)"
        )
    return error.reason


def own_pid_namespace(host: Host) -> tuple[int, int]:
    """The kernel's device number and inode of our pid namespace; (0, 0) in the initial one, which sees all.

    In another one the kernel's process numbers mean nothing to us, and processes outside are not ours.
    """
    status = host.stat("/proc/self/ns/pid")
    if status.st_ino == INITIAL_PID_NAMESPACE:
        return ALL_PID_NAMESPACES
    # The kernel packs a device as 12 bits and 20 bits (include/linux/kdev_t.h), which is not how stat(2)
    # gives it.
    return os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino


def own_clock_offset_ns(host: Host, clock: Literal["monotonic", "boottime"]) -> int:
    """What our time namespace adds to a clock; the kernel's programs read it without (time_namespaces(7))."""
    try:
        page = host.read_text("/proc/self/timens_offsets")
    except errors.HostError:
        return 0  # a kernel without time namespaces
    for line in page.splitlines():
        name, seconds, nanoseconds = line.split()
        if name == clock:
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
