# SPDX-License-Identifier: Apache-2.0
"""Who is a process, and what may it do? One /proc/PID/status page: bytes in, a record out.

Source: proc_pid_status(5); capabilities(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Numbers of include/uapi/linux/capability.h.
CAP_SYS_PTRACE = 19

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
