# SPDX-License-Identifier: Apache-2.0
"""Where is this process? Which user, unit, container and namespaces, and how the kernel is set."""

from __future__ import annotations

import os

import agent
from agent import errors
from agent.diagnosis.remedies import Place
from agent.host import Host, text
from agent.kernel import preflight
from agent.model.status import Own
from agent.procfs.cgroup import Placement, parse_cgroup
from agent.procfs.status import Privileges

# The inode of the first user namespace (PROC_USER_INIT_INO, include/linux/proc_ns.h).
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD
_PAGE_BYTES_MAX = 64 * 1024
# What people ask for first. Nothing is decided by them: what was tried decides.
_SETTINGS = {
    "lockdown": "/sys/kernel/security/lockdown",
    "perf_event_paranoid": "/proc/sys/kernel/perf_event_paranoid",
    "unprivileged_bpf_disabled": "/proc/sys/kernel/unprivileged_bpf_disabled",
    "yama_ptrace_scope": "/proc/sys/kernel/yama/ptrace_scope",
}


def own(host: Host, held: Privileges) -> Own:
    """This process, for the document."""
    placement = _placement(host)
    uid = os.geteuid()
    return Own(
        version=agent.__version__,
        user=host.user(uid),
        uid=uid,
        unit=text(placement.unit) if placement.unit else None,
        container=placement.container,
        sees_all_pids=_sees_all_pids(host),
        is_user_initial=_is_user_initial(host),
        no_new_privs=held.no_new_privs,
        is_filtered=held.is_filtered,
    )


def place(found: Own) -> Place:
    """The same, as far as it decides what can be granted."""
    return Place(uid=found.uid, user=found.user, unit=found.unit, container=found.container)


def settings(host: Host) -> dict[str, str]:
    """Settings of the kernel by name; those that it does not have are left out."""
    found = {}
    for name, path in _SETTINGS.items():
        try:
            found[name] = host.read_text(path).strip()
        except errors.HostError:
            continue
    return found


def _placement(host: Host) -> Placement:
    try:
        return parse_cgroup(host.read("/proc/self/cgroup", _PAGE_BYTES_MAX))
    except errors.HostError:
        return Placement()


def _sees_all_pids(host: Host) -> bool:
    try:
        return preflight.own_pid_namespace(host) == (0, 0)
    except errors.HostError:
        return False


def _is_user_initial(host: Host) -> bool:
    try:
        return host.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_NAMESPACE
    except errors.VanishedError:
        return True  # a kernel without user namespaces
    except errors.HostError:
        return False
