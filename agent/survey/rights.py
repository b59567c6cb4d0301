# SPDX-License-Identifier: Apache-2.0
"""What may this very process do here, and does /proc show it every process?"""

from __future__ import annotations

from agent import errors
from agent.host import Host
from agent.procfs.mountinfo import hides_processes
from agent.procfs.status import Privileges, parse_privileges
from agent.survey.pages import PAGE_BYTES_MAX

UNLISTED = "lists only our own processes (hidepid)"


def privileges(host: Host) -> Privileges:
    """What this process may do, by the kernel's own page.

    Raises:
        HostError: the page cannot be read, or is not of the documented form.
    """
    found = parse_privileges(host.read("/proc/self/status", PAGE_BYTES_MAX))
    if found is None:
        raise errors.UnreadableError("/proc/self/status", "it does not tell our capabilities")
    return found


def lists_all(host: Host) -> bool:
    """Whether /proc lists every process to us: as it is mounted, for one of our groups, or by CAP_SYS_PTRACE.

    Where it does not, nobody is denied anything: there is simply nothing to see (proc(5), hidepid).

    Raises:
        HostError: our own pages do not tell.
    """
    held = privileges(host)
    return held.may("CAP_SYS_PTRACE") or not hides_processes(host.read("/proc/self/mountinfo"), held.groups)
