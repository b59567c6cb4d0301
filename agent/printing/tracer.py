# SPDX-License-Identifier: Apache-2.0
"""Which processes use cryptography at this moment? The part of a snapshot that users' scripts read.

The keys and their meaning are those that the jq recipes, playbooks and Prometheus exporter of crypto-tracer's
users rely on; ours come after them. What is compared, posted and judged is the inventory beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.host import Host
from agent.printing.selection import Selection
from agent.redact import Redaction
from agent.survey.process import HeldFile, Process

_DELETED = " (deleted)"


def selected(found: Iterable[Process], selection: Selection) -> list[Process]:
    """Those that were asked for, by their names as they are."""
    return [
        process
        for process in found
        if selection.admits(
            pid=process.pid,
            process=process.name,
            libraries=(library.path for library in process.libraries),
            files=(file.path for file in process.files),
        )
    ]


def processes(found: Iterable[Process], host: Host, redaction: Redaction) -> list[dict[str, Any]]:
    """Processes as they are printed, in the order given.

    Returns:
        pid, name (comm), exe, running_as (login name), libraries (paths; ` (deleted)` after those that were
        replaced) and open_crypto_files (paths of files held open, the same way). Then uid, unit and container
        where there are such, and file_details where files are open: what each of them is.
    """
    return [_process(process, host, redaction) for process in found]


def _process(process: Process, host: Host, redaction: Redaction) -> dict[str, Any]:
    printed: dict[str, Any] = {
        "pid": process.pid,
        "name": process.name,
        "exe": redaction.path(process.exe),
        "running_as": redaction.name(host.user(process.uid)),
        "libraries": sorted({_path(held.path, redaction, held.deleted) for held in process.libraries}),
        "open_crypto_files": sorted({_path(held.path, redaction, held.deleted) for held in process.files}),
        "uid": process.uid,
    }
    if process.unit is not None:
        printed["unit"] = process.unit
    if process.container is not None:
        printed["container"] = process.container
    if process.files:
        details = {_path(held.path, redaction, held.deleted): held for held in process.files}
        printed["file_details"] = [_details(path, held) for path, held in sorted(details.items())]
    return printed


def _path(path: str, redaction: Redaction, is_deleted: bool) -> str:  # noqa: FBT001 - as the field is called
    return redaction.path(path) + (_DELETED if is_deleted else "")


def _details(path: str, held: HeldFile) -> dict[str, str]:
    told = {"file": path, "file_type": held.file_type}
    return told | ({} if held.file_kind is None else {"file_kind": held.file_kind})


def summary(printed: list[dict[str, Any]]) -> dict[str, int]:
    """The three totals: processes listed, and the lengths of their lists added up."""
    return {
        "total_processes": len(printed),
        "total_libraries": sum(len(process["libraries"]) for process in printed),
        "total_files": sum(len(process["open_crypto_files"]) for process in printed),
    }
