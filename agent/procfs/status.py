# SPDX-License-Identifier: Apache-2.0
"""What may a process do, and what could it be given? One /proc/PID/status page: bytes in, a record out.

Source: proc_pid_status(5); capabilities(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# SECCOMP_MODE_FILTER of include/uapi/linux/seccomp.h.
_SECCOMP_FILTER = 2

# The capabilities that anything here asks for, by the name that units and error messages use. Numbers of
# include/uapi/linux/capability.h.
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
_PRIVILEGE = re.compile(rb"^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):[ \t]*([0-9a-f]{1,16})$", re.MULTILINE)
# Real, effective, saved, of the file system; then the supplementary ones.
_EFFECTIVE_GROUP = re.compile(rb"^Gid:[ \t]*[0-9]{1,10}[ \t]+([0-9]{1,10})", re.MULTILINE)
_USERS = re.compile(rb"^Uid:((?:[ \t]+[0-9]{1,10}){4})$", re.MULTILINE)
_GROUPS = re.compile(rb"^Groups:[ \t]*([0-9 ]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Privileges:
    """The sets and flags that decide what a process may do. Sets are numbers: bit N for capability N."""

    effective: int
    """What it may do."""
    bounding: int
    """What it, or a program that it runs, could ever be given."""
    ambient: int
    """What a program that it runs keeps."""
    no_new_privs: bool
    """No program that it runs gains anything by set-uid bits or file capabilities."""
    is_filtered: bool
    """A seccomp filter decides about its system calls."""
    groups: frozenset[int] = frozenset()
    """Effective and supplementary ones."""

    def may(self, capability: str) -> bool:
        """Whether a capability of `CAPABILITIES` is in the effective set."""
        return bool(self.effective >> CAPABILITIES[capability] & 1)

    def keeps(self, capability: str) -> bool:
        """Whether it is in the ambient set."""
        return bool(self.ambient >> CAPABILITIES[capability] & 1)

    def could(self, capability: str) -> bool:
        """Whether it is in the bounding set."""
        return bool(self.bounding >> CAPABILITIES[capability] & 1)


def parse_privileges(page: bytes) -> Privileges | None:
    """What a status page says of privileges; None without CapEff and CapBnd.

    Args:
        page: the whole page. Kernels before 4.3 have no CapAmb, before 4.10 no NoNewPrivs.
    """
    found = {match[1]: int(match[2], 16) for match in _PRIVILEGE.finditer(page)}
    if not {b"CapEff", b"CapBnd"} <= found.keys():
        return None
    return Privileges(
        effective=found[b"CapEff"],
        bounding=found[b"CapBnd"],
        ambient=found.get(b"CapAmb", 0),
        no_new_privs=bool(found.get(b"NoNewPrivs")),
        is_filtered=found.get(b"Seccomp") == _SECCOMP_FILTER,
        groups=_groups(page),
    )


def parse_users(page: bytes) -> frozenset[int]:
    """The users that a process is: real, effective, saved, of the file system; empty without such a line.

    A set-user-id program is two: whoever started it still decides what it does.
    """
    found = _USERS.search(page)
    return frozenset(map(int, found[1].split())) if found else frozenset()


def _groups(page: bytes) -> frozenset[int]:
    effective, others = _EFFECTIVE_GROUP.search(page), _GROUPS.search(page)
    numbers = [*((effective[1],) if effective else ()), *(others[1].split() if others else ())]
    return frozenset(int(number) for number in numbers if len(number) <= 10)
