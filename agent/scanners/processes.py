# SPDX-License-Identifier: Apache-2.0
"""Which processes have which cryptographic libraries mapped, and does the file still exist?

One entry per use: executable, unit or container, library. Counts of processes are true only now: they go to
`live`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from agent import errors
from agent.host import Host, text
from agent.mapped import DELETED, Mapped, MappedFiles
from agent.model import canonical
from agent.model.asset import LibraryUse
from agent.model.inventory import Entry
from agent.model.limits import EXAMPLES_MAX
from agent.model.location import Location, Package
from agent.packages import owners
from agent.procfs.cgroup import Placement, parse_cgroup
from agent.procfs.stat import parse_stat
from agent.procfs.status import CAP_SYS_PTRACE, parse_status
from agent.procmap import NotOfferedError, QueryReader, Reader, TextReader
from agent.scanners import Scan, Spec

SPEC = Spec(
    detector=1,
    reads=(
        "/proc/PID/maps",
        "/proc/PID/map_files",
        "/proc/PID/exe",
        "/proc/PID/cgroup",
        "executable files that are mapped",
    ),
    # The last opens map_files, and with it what was deleted.
    needs=("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE"),
    cost="medium",
    sampled=True,
)

_PAGE_BYTES_MAX = 64 * 1024
# Directories of one run: PyInstaller's one-file programs (_MEI and digits of the pid) and AppImage's mounts.
_UNPACKED = re.compile(r"(/(?:_MEI|\.mount_))[0-9A-Za-z_-]+/")
_HIDEPID = re.compile(rb"^\S+ \S+ \S+ / /proc .* - proc \S+ \S*\bhidepid=(?!0|off)", re.MULTILINE)


class Seen(NamedTuple):
    """One process that uses cryptography, as it is now: in no digest, for who asks about this moment."""

    pid: int
    exe: str
    """Path without ` (deleted)`; surrogate escapes."""
    libraries: tuple[Mapped, ...]


_Use = tuple[str, Placement, tuple[Mapped, ...]]
"""Executable, where it belongs, and the libraries as it has them mapped: alike for processes of one kind."""


@dataclass
class _Sight:
    """One look at all processes."""

    host: Host
    scan: Scan
    reader: Reader
    files: MappedFiles
    uses: set[_Use] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    placements: dict[bytes, Placement] = field(default_factory=dict)


def scan(host: Host) -> Scan:
    """Look at every process once."""
    return survey(host)[0]


def survey(host: Host) -> tuple[Scan, list[Seen]]:
    """The same, with the processes themselves beside what is kept of them."""
    found = Scan()
    try:
        pids = host.pids()
    except errors.VanishedError:
        found.absent = "there is no /proc"
        return found, []
    if not pids and not host.list_dir("/proc"):
        # A disk has the directory, and nothing in it.
        found.absent = "/proc is not mounted"
        return found, []
    sight = _Sight(host, found, QueryReader(), MappedFiles(host, found.skip))
    own_pids = host.own_pids
    for pid in pids:
        # The agent is not what it looks for; unpacked from one file, its libraries have new paths each time.
        if pid not in own_pids:
            _look(sight, pid)
    _count_hidden(sight)
    found.rung = sight.reader.rung
    found.entries = _entries(host, sight.uses)
    names = ("processes", "processes_with_crypto", "processes_executable_deleted")
    found.live = {name: sight.counts[name] for name in names} | {"mapped_files": sight.files.count}
    return found, sight.seen


def _look(sight: _Sight, pid: int) -> None:
    """One process: what it uses goes to `uses`, what hinders us to the scan."""
    try:
        libraries = _libraries(sight, pid)
        sight.counts["processes"] += 1
        if not libraries:
            return
        exe = sight.host.read_link(f"/proc/{pid}/exe")
        placement = _placement(sight, pid)
    except errors.VanishedError:
        if not _has_no_memory(sight.host, pid):
            sight.scan.skip("vanished", f"/proc/{pid}")
        return
    except errors.HostError as error:
        sight.scan.skip(error.skip, _called(sight, pid))
        return
    sight.counts["processes_with_crypto"] += 1
    if exe.endswith(DELETED):
        # Cut off also where a file is really called so: the key must not depend on what can be looked at.
        sight.counts["processes_executable_deleted"] += 1
        exe = exe.removesuffix(DELETED)
    sight.uses.add((exe, placement, libraries))
    sight.seen.append(Seen(pid, exe, libraries))


def _libraries(sight: _Sight, pid: int) -> tuple[Mapped, ...]:
    """Those a process has mapped, in the order of their addresses."""
    path = f"/proc/{pid}/maps"
    files = sight.files
    with sight.host.open(path) as fd:
        try:
            known, others = sight.reader.executable(fd, path, files.known)
        except NotOfferedError as error:
            sight.reader = TextReader()
            sight.scan.rung_reason = str(error)
            known, others = sight.reader.executable(fd, path, files.known)
        found = dict.fromkeys(known)
        for mapping in others:
            try:
                mapped = files.identify(sight.reader, fd, pid, mapping)
            except errors.VanishedError:
                # Unmapped between two questions. If the whole process has gone, so has its executable.
                continue
            found[mapped] = None
    return tuple(mapped for mapped in found if mapped is not None)


def _placement(sight: _Sight, pid: int) -> Placement:
    try:
        page = sight.host.read(f"/proc/{pid}/cgroup", _PAGE_BYTES_MAX)
    except errors.VanishedError:
        # A kernel without cgroups has no such page; a process that ended since its exe was read counts.
        return Placement()
    if page not in sight.placements:
        sight.placements[page] = parse_cgroup(page)
    return sight.placements[page]


def _has_no_memory(host: Host, pid: int) -> bool:
    """Whether it is there and has none to look at: a thread of the kernel, or what is left of a process."""
    try:
        stat = parse_stat(host.read(f"/proc/{pid}/stat", _PAGE_BYTES_MAX))
    except errors.HostError:
        return False
    return stat is not None and (stat.is_kernel_thread or stat.has_ended)


def _called(sight: _Sight, pid: int) -> str:
    """The process by its name: a number would make the section differ from scan to scan."""
    if len(sight.scan.examples) >= EXAMPLES_MAX:
        return ""
    try:
        stat = parse_stat(sight.host.read(f"/proc/{pid}/stat", _PAGE_BYTES_MAX))
    except errors.HostError:
        stat = None
    return f"process {text(stat.name.decode('utf-8', 'surrogateescape'))}" if stat else "a process"


def _count_hidden(sight: _Sight) -> None:
    """Processes that /proc does not even list, to those without the capability (proc(5), hidepid)."""
    try:
        if not _HIDEPID.search(sight.host.read("/proc/self/mountinfo")):
            return
        status = parse_status(sight.host.read("/proc/self/status", _PAGE_BYTES_MAX))
    except errors.HostError:
        return
    if status is None or not status.may(CAP_SYS_PTRACE):
        sight.scan.skip("denied", "/proc lists only our own processes (hidepid)")


# -- entries -------------------------------------------------------------------------------------------------


def _entries(host: Host, uses: set[_Use]) -> list[Entry]:
    each = {(exe, placement, mapped) for exe, placement, libraries in uses for mapped in libraries}
    packages = owners(host, {mapped.path for _, _, mapped in each if mapped.is_of_host})
    by_key: dict[str, set[Entry]] = {}
    for exe, placement, mapped in each:
        package = packages.get(mapped.path) if mapped.is_of_host else None
        entry = _entry(exe, placement, mapped, package)
        by_key.setdefault(entry.key, set()).add(entry)
    return [entry for entries in by_key.values() for entry in _told_apart(entries)]


def _entry(exe: str, placement: Placement, mapped: Mapped, package: Package | None) -> Entry:
    library, path, exe = mapped.library, steady(text(mapped.path)), steady(text(exe))
    key = f"{exe} {text(placement.label)} {path}"
    return Entry(
        key=key + DELETED if mapped.deleted else key,
        asset=LibraryUse(
            family=library.family,
            name=library.name,
            soname=library.soname,
            version=library.version,
            build_id=library.build_id,
            deleted=mapped.deleted,
        ),
        where=Location(
            path=path,
            package=package,
            exe=exe,
            unit=text(placement.unit) if placement.unit else None,
            container=placement.container,
        ),
    )


def steady(path: str) -> str:
    """A path as it is at every start: what unpacks itself does so below a new random name each time."""
    return _UNPACKED.sub(r"\1*/", path)


def _told_apart(entries: set[Entry]) -> list[Entry]:
    """Uses of one key that differ (two images, two upgrades): each is named by its content."""
    if len(entries) == 1:
        return list(entries)
    digests = {canonical.digest(canonical.encode(entry)): entry for entry in entries}
    return [
        Entry(key=f"{entry.key}#{digest.removeprefix('sha256:')[:12]}", asset=entry.asset, where=entry.where)
        for digest, entry in digests.items()
    ]
