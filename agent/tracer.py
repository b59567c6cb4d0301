# SPDX-License-Identifier: Apache-2.0
"""Which processes use cryptography at this moment? The part of a snapshot that users' scripts read.

The keys and their meaning are those that the jq recipes, playbooks and Prometheus exporter of crypto-tracer's
users rely on. What is compared, posted and judged is the inventory beside it.
"""

from __future__ import annotations

from typing import Any

from agent import errors
from agent.host import Host, text
from agent.procfs.stat import parse_stat
from agent.procfs.status import parse_status
from agent.redact import Redaction
from agent.scanners.processes import Seen

_PAGE_BYTES_MAX = 64 * 1024
# What crypto-tracer took for a cryptographic file that is held open.
_SUFFIXES = (".pem", ".crt", ".cer", ".key", ".p12", ".pfx", ".jks", ".keystore")
_DELETED = " (deleted)"


def processes(host: Host, seen: list[Seen], redaction: Redaction) -> list[dict[str, Any]]:
    """Processes that map a crypto library, by pid. One that has ended since is left out.

    Returns:
        pid, name (comm), exe, running_as (login name), libraries (paths; ` (deleted)` after those replaced),
        and open_crypto_files (paths of files held open, by suffix).
    """
    found = []
    for process in seen:
        try:
            stat = parse_stat(host.read(f"/proc/{process.pid}/stat", _PAGE_BYTES_MAX))
            status = parse_status(host.read(f"/proc/{process.pid}/status", _PAGE_BYTES_MAX))
        except errors.HostError:
            continue
        if stat is None or status is None:
            continue
        libraries = {
            redaction.path(text(mapped.path)) + (_DELETED if mapped.deleted else "")
            for mapped in process.libraries
        }
        found.append(
            {
                "pid": process.pid,
                "name": text(stat.name.decode("utf-8", "surrogateescape")),
                "exe": redaction.path(text(process.exe)),
                "running_as": redaction.name(host.user(status.uid)),
                "libraries": sorted(libraries),
                "open_crypto_files": sorted(_open_files(host, process.pid, redaction)),
            }
        )
    return found


def summary(found: list[dict[str, Any]]) -> dict[str, int]:
    """The three totals: processes listed, and the lengths of their lists added up."""
    return {
        "total_processes": len(found),
        "total_libraries": sum(len(process["libraries"]) for process in found),
        "total_files": sum(len(process["open_crypto_files"]) for process in found),
    }


def _open_files(host: Host, pid: int, redaction: Redaction) -> set[str]:
    """Files of a process's descriptors that are called like keys or certificates, deleted ones too."""
    found: set[str] = set()
    try:
        numbers = host.list_dir(f"/proc/{pid}/fd")
    except errors.HostError:
        return found
    for number in numbers:
        try:
            target = host.read_link(f"/proc/{pid}/fd/{number}")
        except errors.HostError:
            continue
        if target.removesuffix(_DELETED).lower().endswith(_SUFFIXES):
            found.add(redaction.path(text(target)))
    return found
