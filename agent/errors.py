# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the agent, and whose fault is it?

AgentError                      everything we raise on purpose; `exit_code` is the command's
|-- HostError                   one thing on the host could not be looked at; counted as skipped, never fatal
|   |-- VanishedError           it was there and is gone: not an error of anybody
|   |-- DeniedError             we may not look; grant a capability, or accept "unknown"
|   |-- UnreadableError         the kernel or the disk refused
|   |-- TooLargeError           larger than the limit for such a thing
|   |-- MalformedError          its bytes contradict themselves: seen for what it is
|   `-- CrashedError            reading its bytes ended the process that did
|-- UsageError           (2)    the operator asked for something that means nothing
|-- ConfigError          (1)    the operator's configuration is wrong
|-- PrivilegeError       (3)    a capability is missing for the whole command
|-- KernelError          (4)    this kernel cannot do it
|-- AttachError          (5)    nothing could be attached
|-- ToolError                   an external tool failed or took too long
|-- OutputError          (1)    what was asked for cannot be written where it was asked for
|-- DisabledError        (1)    the operator has switched the agent off on this host
|-- BusyError            (1)    another run of the agent is at work on this host
|-- StateError           (1)    the agent's own directory cannot be trusted, read or written
`-- CollectorError       (1)    the collector refused, could not be reached, or is not the one we know
    |-- UnreachableError        network or TLS: try again later
    `-- RefusedError            a 4xx that will not change by itself
"""

from __future__ import annotations

import errno

from agent.model.inventory import SkipReason
from agent.words import why

EXIT_COMPLETE = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_PRIVILEGE = 3
EXIT_KERNEL = 4
EXIT_ATTACH = 5
EXIT_PARTIAL = 6


class AgentError(Exception):
    """The root of the tree above."""

    exit_code = EXIT_FAILURE


class HostError(AgentError):
    """One thing on the host could not be looked at. `skip` is the reason under which it is counted."""

    skip: SkipReason = "unreadable"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"cannot read {path}: {why}")
        self.path = path


class VanishedError(HostError):
    """It was there and is gone."""

    skip: SkipReason = "vanished"


class DeniedError(HostError):
    """Permission denied."""

    skip: SkipReason = "denied"


class UnreadableError(HostError):
    """The kernel or the disk refused."""

    skip: SkipReason = "unreadable"


class TooLargeError(HostError):
    """Larger than the limit for such a thing."""

    skip: SkipReason = "too_large"


class MalformedError(HostError):
    """Its bytes contradict themselves."""

    skip: SkipReason = "malformed"


class CrashedError(HostError):
    """The process that read its bytes was killed, hung or ran out of memory."""

    skip: SkipReason = "crashed"


class UsageError(AgentError):
    """The operator asked for something that means nothing."""

    exit_code = EXIT_USAGE


class ConfigError(AgentError):
    """The operator's configuration is wrong."""


class PrivilegeError(AgentError):
    """A capability is missing for the whole command."""

    exit_code = EXIT_PRIVILEGE


class KernelError(AgentError):
    """This kernel cannot do it."""

    exit_code = EXIT_KERNEL


class AttachError(AgentError):
    """Nothing could be attached."""

    exit_code = EXIT_ATTACH


class ToolError(AgentError):
    """An external tool failed or took too long."""


class OutputError(AgentError):
    """What was asked for cannot be written where it was asked for."""


class DisabledError(AgentError):
    """The operator has switched the agent off on this host."""


class BusyError(AgentError):
    """Another run of the agent is at work on this host."""


class StateError(AgentError):
    """The agent's own directory cannot be trusted, read or written."""


class CollectorError(AgentError):
    """The collector refused, or could not be reached."""


class UnreachableError(CollectorError):
    """Network, TLS, or not now: try again later, not before `retry_after_s` where the collector said so."""

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedError(CollectorError):
    """A refusal that will not change by itself. `problem` is the RFC 9457 problem's name, if it had one."""

    def __init__(self, message: str, status: int, problem: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


# A process that ends while we read its /proc pages gives ESRCH, or ENOENT for the directory itself.
_VANISHED = {errno.ENOENT, errno.ESRCH}
_DENIED = {errno.EACCES, errno.EPERM}


def host_error(error: OSError, path: str) -> HostError:
    """The leaf of the tree that an OSError means for a path on the host."""
    reason = why(error)
    if error.errno in _VANISHED:
        return VanishedError(path, reason)
    if error.errno in _DENIED:
        return DeniedError(path, reason)
    return UnreadableError(path, reason)
