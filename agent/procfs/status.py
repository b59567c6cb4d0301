# SPDX-License-Identifier: Apache-2.0
"""Who is a process, and what may it do? One /proc/PID/status page: bytes in, a record out.

Source: proc_pid_status(5); capabilities(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Numbers of include/uapi/linux/capability.h.
CAP_SYS_PTRACE = 19
# SECCOMP_MODE_FILTER of include/uapi/linux/seccomp.h.
_SECCOMP_FILTER = 2

_FIELD = re.compile(rb"^(Uid|Gid|CapEff):[ \t]*([0-9a-f]{1,16})(?:[ \t]+([0-9]{1,10}))?", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """The fields of the page that we use."""

    uid: int
    """Effective."""
    gid: int
    """Effective."""
    capabilities: int
    """The effective set, bit N for capability N."""

    def may(self, capability: int) -> bool:
        """Whether that capability is in the effective set."""
        return bool(self.capabilities >> capability & 1)


def parse_status(page: bytes) -> Status | None:
    """The record, or None where the page is not of the documented form.

    Args:
        page: the whole page. The kernel escapes newlines in `Name:`, so no name can fake a field.
    """
    found = {match[1]: match for match in _FIELD.finditer(page)}
    if len(found) != 3 or found[b"Uid"][3] is None or found[b"Gid"][3] is None:
        return None
    return Status(int(found[b"Uid"][3]), int(found[b"Gid"][3]), int(found[b"CapEff"][2], 16))


# -- what a process may do, and what it could be given -------------------------------------------------------

# The capabilities that anything here asks for, by the name that units and error messages use.
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": CAP_SYS_PTRACE,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
_PRIVILEGE = re.compile(rb"^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):[ \t]*([0-9a-f]{1,16})$", re.MULTILINE)


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
    )
