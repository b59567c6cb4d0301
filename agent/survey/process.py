# SPDX-License-Identifier: Apache-2.0
"""What is one process that uses cryptography, as it is at this moment? Raw truth, for what is printed.

Nothing of it is in an inventory: its numbers are true only now.
"""

from __future__ import annotations

from msgspec import Struct

from agent.readers.file_kind import FileType


class HeldFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cryptographic file that a process holds open.

    Attributes:
        path: as the process sees it, without ` (deleted)`; the document's form (`agent.host.text`).
        deleted: it has no name any more.
        file_type: what its bytes are.
        file_kind: the same, finer; see `agent.readers.file_kind`.
    """

    path: str
    deleted: bool = False
    file_type: FileType
    file_kind: str | None = None


class HeldLibrary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cryptographic library that a process has mapped.

    Attributes:
        path: as the process sees it, without ` (deleted)`; the document's form.
        deleted: it was replaced or removed since.
        family: its project.
        name: its name without version, for example libssl.
        version: what its bytes state.
    """

    path: str
    deleted: bool = False
    family: str
    name: str
    version: str | None = None


class Process(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process that has a cryptographic library mapped or a cryptographic file open.

    Attributes:
        pid: number in the agent's pid namespace.
        start_ticks: when it began, in clock ticks since boot (proc_pid_stat(5)): with `pid`, one process for
            ever.
        name: comm, the document's form.
        exe: path without ` (deleted)`; the document's form.
        uid: real user.
        unit: systemd unit or other label of its cgroup; None where it has none.
        container: id of its container; None on the host itself.
        libraries: sorted by path.
        files: sorted by path.
    """

    pid: int
    start_ticks: int
    name: str
    exe: str
    uid: int
    unit: str | None = None
    container: str | None = None
    libraries: tuple[HeldLibrary, ...] = ()
    files: tuple[HeldFile, ...] = ()
