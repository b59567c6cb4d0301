# SPDX-License-Identifier: Apache-2.0
"""Which processes have which cryptographic libraries mapped, and does the file still exist?

One entry per use: executable, unit or container, library. Counts of processes are true only now: they go to
`live`; and so are the processes themselves with the files that they hold open (`Scan.processes`).
"""

from __future__ import annotations

import functools
import os
import re

from agent import errors
from agent.disk.packages import owners
from agent.host import Host, text
from agent.model import canonical
from agent.model.asset import LibraryUse
from agent.model.inventory import Entry
from agent.model.location import Location, Package
from agent.procfs.cgroup import Placement
from agent.scanners import Scan, Spec
from agent.survey import census_pages
from agent.survey.census import Census, Sighted
from agent.survey.descriptors import DESCRIPTORS_MAX
from agent.survey.mapped import DELETED, Mapped
from agent.survey.process import HeldFile, HeldLibrary, Process
from agent.survey.rights import UNLISTED, lists_all

SPEC = Spec(
    detector=2,
    reads=(
        "/proc/PID/maps",
        "/proc/PID/map_files",
        "/proc/PID/fd",
        "/proc/PID/exe",
        "/proc/PID/cgroup",
        "/proc/PID/stat and status",
        "executable files that are mapped",
        "the first bytes of files that are held open",
    ),
    # The last opens map_files, and with it what was deleted. CAP_BPF and CAP_PERFMON make it faster, no more.
    needs=("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE"),
    cost="medium",
    sampled=True,
)

# From so many processes on, asking the kernel for all at once is cheaper than asking /proc for each: loading
# the programs costs 20 ms of CPU and 7 MB for a moment, /proc 0.11 ms more for each process.
ITERATORS_FROM = 200
# Of all processes together, in the list for people and again in the entries. 3,000 processes with ten
# libraries each have 5 MiB; what goes through the worker's pipe may have 64.
_TOLD_BYTES_MAX = 16 * 1024 * 1024
# Directories of one run: PyInstaller's one-file programs (_MEI and digits of the pid) and AppImage's mounts.
_UNPACKED = re.compile(r"(/(?:_MEI|\.mount_))[0-9A-Za-z_-]+/")


def scan(host: Host) -> Scan:
    """Look at every process once."""
    found = Scan()
    try:
        pids = host.pids()
    except errors.VanishedError:
        found.absent = "there is no /proc"
        return found
    if not pids and not host.list_dir("/proc"):
        # A disk has the directory, and nothing in it.
        found.absent = "/proc is not mounted"
        return found
    with Census(host, found) as census:
        _take(census, pids)
        _count_hidden(host, found)
        _tell(census)
        found.live = {
            "processes": census.counts["processes"],
            "processes_with_crypto": census.counts["processes_with_crypto"],
            "processes_executable_deleted": census.counts["processes_executable_deleted"],
            "mapped_files": census.mapped.count,
        }
    return found


def _take(census: Census, pids: list[int]) -> None:
    """Ask in the best way that there is here and that pays off."""
    found = census.scan
    reason = None
    if census.host.root == "/":
        reason = f"BPF iterators pay off from {ITERATORS_FROM} processes on"
        if len(pids) >= ITERATORS_FROM:
            # With ctypes and libbpf, which a look at few processes does without.
            from agent.kernel.iterators import Iterators
            from agent.survey import census_kernel

            try:
                with Iterators(census.host, DESCRIPTORS_MAX) as iterators:
                    census_kernel.take(census, iterators)
            except (errors.PrivilegeError, errors.KernelError, errors.AttachError) as error:
                reason = f"no BPF iterators: {error}"
                census.counts.clear()
                census.sighted.clear()
            else:
                found.rung = "bpf-iterators"
                return
    census_pages.take(census, pids)
    census.finish()
    found.rung = census.reader.rung
    found.rung_reason = "; ".join(filter(None, (reason, census.no_query))) or None


def _count_hidden(host: Host, found: Scan) -> None:
    """Processes that /proc does not even list."""
    try:
        if not lists_all(host):
            found.skip("denied", f"/proc {UNLISTED}")
    except errors.HostError:
        # A host that is a directory has no pages of ours.
        return


# -- what is told --------------------------------------------------------------------------------------------


def _tell(census: Census) -> None:
    """Entries and processes of what was sighted."""
    uses: set[tuple[str, Placement, Mapped]] = set()
    # Thousands of processes are of some dozens of kinds, and each kind's libraries are one object.
    held: dict[tuple[bytes, Placement, tuple[Mapped, ...]], tuple[HeldLibrary, ...]] = {}
    for one in _affordable(census):
        libraries = tuple(slot.mapped for slot in one.mapped if slot.mapped is not None)
        files = {use.held for use in one.opened if use.held is not None} if one.opened else set()
        if not libraries and not files:
            continue
        exe = os.fsdecode(one.exe)
        if exe.endswith(DELETED):
            # Cut off also where a file is really called so: the key must not depend on what can be looked at.
            census.counts["processes_executable_deleted"] += 1
            exe = exe.removesuffix(DELETED)
        census.counts["processes_with_crypto"] += bool(libraries)
        kind = (one.exe, one.placement, libraries)
        if kind not in held:
            uses.update((exe, one.placement, mapped) for mapped in libraries)
            held[kind] = _held(libraries)
        census.scan.processes.append(_process(one, exe, held[kind], files))
    census.scan.entries = _entries(census.host, uses)


def _affordable(census: Census) -> list[Sighted]:
    """Those of which everything can be told, by pid; the greediest are left out first, and counted.

    Who maps thousands of files with long names hides himself by that, and nobody else.
    """
    left = _TOLD_BYTES_MAX
    kept: list[Sighted] = []
    for size, one in sorted(((_told_bytes(one), one) for one in census.sighted), key=lambda pair: pair[0]):
        left -= size
        if left < 0:
            census.scan.skip("budget", f"process {os.fsdecode(one.name)}")
        else:
            kept.append(one)
    return sorted(kept, key=lambda one: one.pid)


def _told_bytes(one: Sighted) -> int:
    """About how much will be told of a process: names, and a hundred bytes of what stands around each."""
    size = sum(len(slot.mapped.path) + 100 for slot in one.mapped if slot.mapped is not None)
    if one.opened:
        size += sum(len(use.held.path) + 100 for use in one.opened if use.held is not None)
    return size


def _process(one: Sighted, exe: str, libraries: tuple[HeldLibrary, ...], files: set[HeldFile]) -> Process:
    return Process(
        pid=one.pid,
        start_ticks=one.start_ticks,
        name=_escaped(os.fsdecode(one.name)),
        exe=_escaped(exe),
        uid=one.uid,
        unit=_escaped(one.placement.unit) if one.placement.unit else None,
        container=one.placement.container,
        libraries=libraries,
        files=tuple(sorted(files, key=lambda file: (file.path, file.deleted))) if files else (),
    )


# Thousands of processes have some dozens of names.
_escaped = functools.lru_cache(maxsize=1024)(text)


def _held(libraries: tuple[Mapped, ...]) -> tuple[HeldLibrary, ...]:
    held = {
        HeldLibrary(
            path=text(mapped.path),
            deleted=mapped.deleted,
            family=mapped.library.family,
            name=mapped.library.name,
            version=mapped.library.version,
        )
        for mapped in libraries
    }
    return tuple(
        sorted(held, key=lambda one: (one.path, one.deleted, one.family, one.name, one.version or ""))
    )


def _entries(host: Host, uses: set[tuple[str, Placement, Mapped]]) -> list[Entry]:
    packages = owners(host, {mapped.path for _, _, mapped in uses if mapped.is_of_host})
    by_key: dict[str, set[Entry]] = {}
    for exe, placement, mapped in uses:
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
            embedded=library.embedded,
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
