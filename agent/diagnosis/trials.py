# SPDX-License-Identifier: Apache-2.0
"""What may this process do on this host? Tried as its own work would do it, without changing anything.

A page is opened and not read, a directory is asked about and not listed, a program loaded and not attached.
Names of capabilities, uids and settings promise what a container, a security module or a user namespace then
refuses; only the kernel's own answer counts. What the answers mean for whom is said in `readiness`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent import discover, errors
from agent.disk.places import is_left_out, places
from agent.disk.walk import File, Walker
from agent.guard.sandbox import Sandbox
from agent.host import Host, text
from agent.kernel import loading, preflight, probes, trial
from agent.kernel.event import Who
from agent.kernel.libbpf import Library
from agent.kernel.object import read_image
from agent.model.inventory import SkipReason
from agent.procfs.mountinfo import parse_mountinfo
from agent.procfs.stat import parse_stat
from agent.redact import People, Printed
from agent.survey.procmap import QueryReader
from agent.survey.rights import UNLISTED, lists_all

# Each costs some 10 us. On a host with more of them, the first ones say enough.
PROCESSES_MAX = 10_000
# A tenth of what the scanner looks at, 15 us each: what is closed to us shows near the top.
NAMES_MAX = 20_000
_PAGE_BYTES_MAX = 64 * 1024
# Before the name of a probe, or of a way in which a parser's child is held, in the names of attempts.
PROBE, LAYER = "probe ", "layer "
_MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Attempt:
    """One thing that was tried.

    Attributes:
        what: in words.
        failure: None where it worked; else who said no and how. No number of a process is in it.
        is_denied: whether it failed for want of permission, which a capability may give.
    """

    what: str
    failure: str | None = None
    is_denied: bool = False


def attempts(host: Host) -> dict[str, Attempt]:
    """Everything, tried once on the running host; by name, in the order of `agent.diagnosis.readiness`."""
    pids = _pids(host)
    others = _with_memory(host, pids)
    return {
        **_try_kernel(host),
        **_try_sandbox(),
        "listing": _try("list every process", lambda: _list_all(host, pids)),
        "maps": _each(host, others, "open /proc/PID/maps", lambda pid: _open(host, f"/proc/{pid}/maps")),
        "executables": _each(
            host, others, "read /proc/PID/exe", lambda pid: host.read_link(f"/proc/{pid}/exe")
        ),
        "descriptors": _each(host, others, "open /proc/PID/fd", lambda pid: _open(host, f"/proc/{pid}/fd")),
        "map_files": _try("open a mapped file by its mapping", lambda: _open_mapped(host)),
        "procmap_query": _try("ask for a mapping with PROCMAP_QUERY", lambda: _query(host)),
        **_walk_places(host),
        "cgroups": _try("find the cgroup2 hierarchy", lambda: _find_cgroups(host)),
    }


def _try(what: str, action: Callable[[], None]) -> Attempt:
    try:
        action()
    except errors.AgentError as error:
        return Attempt(what, str(error), isinstance(error, errors.DeniedError))
    return Attempt(what)


def _asked(what: str, failure: str | None) -> Attempt:
    """What `agent.kernel.trial` answered."""
    return Attempt(what, failure, failure is not None and failure.startswith(("EPERM", "EACCES")))


def _open(host: Host, path: str) -> None:
    with host.open(path):
        pass


# -- processes -----------------------------------------------------------------------------------------------


def _pids(host: Host) -> list[int]:
    try:
        return host.pids()
    except errors.HostError:
        return []


def _with_memory(host: Host, pids: Sequence[int]) -> list[int]:
    """Processes that there is something to see of: threads of the kernel have no memory and no files."""
    own = host.own_pids
    return [pid for pid in pids[:PROCESSES_MAX] if pid not in own and _has_memory(host, pid)]


def _has_memory(host: Host, pid: int) -> bool:
    # Readable for everybody, unlike the rest.
    try:
        stat = parse_stat(host.read(f"/proc/{pid}/stat", _PAGE_BYTES_MAX))
    except errors.HostError:
        return False
    return stat is not None and not stat.is_kernel_thread and not stat.has_ended


def _each(host: Host, pids: Sequence[int], what: str, look: Callable[[int], object]) -> Attempt:
    """Look at one page of every process."""
    refusals: list[tuple[SkipReason, str]] = []
    gone = 0
    for pid in pids:
        try:
            look(pid)
        except errors.VanishedError:
            gone += 1
        except errors.HostError as error:
            refusals.append((error.skip, str(error).rpartition(": ")[2]))
    return _counted(f"{what} of every process", len(pids) - gone, refusals)


def _counted(what: str, tried: int, refusals: Sequence[tuple[SkipReason, str]]) -> Attempt:
    if not refusals:
        return Attempt(f"{what} ({tried})")
    is_denied = any(reason == "denied" for reason, _ in refusals)
    return Attempt(what, f"{len(refusals)} of {tried} refused: {refusals[0][1]}", is_denied)


def _list_all(host: Host, pids: Sequence[int]) -> None:
    if not pids:
        raise errors.UnreadableError("/proc", "it is not mounted, or lists no process")
    if not lists_all(host):
        raise errors.DeniedError("/proc", f"it {UNLISTED}")


def _open_mapped(host: Host) -> None:
    """Open a file that this very process has mapped, by its mapping."""
    names = host.list_dir("/proc/self/map_files")
    if not names:
        raise errors.UnreadableError("/proc/self/map_files", "it is empty")
    with host.open(f"/proc/self/map_files/{names[0]}"):
        pass


def _query(host: Host) -> None:
    with host.open("/proc/self/maps") as fd:
        QueryReader().executable(fd, "/proc/self/maps", {})


# -- files ---------------------------------------------------------------------------------------------------


def _walk_places(host: Host) -> dict[str, Attempt]:
    """Go where certificates are looked for, and ask of every file whether we may read it.

    It is asked with access(2), which opens nothing. Network file systems are not asked either.
    """
    skipped: list[tuple[SkipReason, str]] = []
    redaction = Printed(People.of(host))

    def skip(reason: SkipReason, path: str) -> None:
        if reason != "vanished":
            skipped.append((reason, text(redaction.path(path))))

    readable = 0
    try:
        walker = Walker(host, skip, NAMES_MAX)
        for place in places(host):
            for file in walker.walk(place.path, depth_max=place.depth_max, leave=is_left_out):
                if not isinstance(file, File):
                    continue
                if os.access(file.path, os.R_OK, effective_ids=True):
                    readable += 1
                else:
                    skip("denied", file.path)
    except errors.HostError as error:
        skipped.append((error.skip, str(error)))
    foreign = [path for reason, path in skipped if reason == "network_fs"]
    cut = [path for reason, path in skipped if reason == "budget"]
    refusals = [one for one in skipped if one[0] not in ("network_fs", "budget")]
    return {
        "places": _counted(
            "read the files where certificates are looked for", readable + len(refusals), refusals
        ),
        "network": Attempt("meet no network file system there", ", ".join(foreign) or None),
        "names": Attempt(f"ask about all of them, up to {NAMES_MAX} names", cut[0] if cut else None),
    }


def _find_cgroups(host: Host) -> None:
    mounts = parse_mountinfo(host.read(_MOUNTINFO))
    if not any(mount.fs_type == "cgroup2" for mount in mounts):
        raise errors.UnreadableError("/sys/fs/cgroup", "no cgroup2 hierarchy is mounted")


# -- the kernel ----------------------------------------------------------------------------------------------


def _try_kernel(host: Host) -> dict[str, Attempt]:
    """From the least that is needed to the probes themselves; what could only fail too is not tried."""
    specs = {name: module.SPEC for name, module in discover.plugins(probes).items()}
    ring_bytes = max(spec.ring_bytes for spec in specs.values())
    found = {
        "program": _asked("load a BPF program", trial.load_program()),
        "btf": _try("read the kernel's description of its types", lambda: _open(host, preflight.BTF)),
        "libbpf": _try("load libbpf and the agent's programs", _find_library),
    }
    if found["program"].failure is None:
        reader = trial.load_kernel_reader()
        found["kernel_reader"] = _asked("load a program that reads the kernel's memory", reader)
        found["ring"] = _asked(f"make a BPF ring of {ring_bytes} bytes", trial.create_ring(ring_bytes))
    if not any(attempt.failure for attempt in found.values()):
        refused: dict[str, str] = {}
        found["object"] = _try("load the agent's own programs", lambda: refused.update(_load()))
        if found["object"].failure is None:
            found |= {PROBE + name: Attempt(f"load {name}", refused.get(name)) for name in specs}
    return found


def _find_library() -> None:
    Library.shared()
    read_image(loading.OBJECT)


def _load() -> dict[str, str]:
    """Load what `monitor` loads, with the smallest rings, and let go of it. Nothing is attached.

    Returns:
        Probes of which every program was refused, and why.
    """
    wanted = discover.plugins(probes)
    loaded, refused = loading.load(
        wanted, (), Who(own=(os.getpid(),)), is_folding=False, ring_bytes=mmap.PAGESIZE
    )
    with loaded:
        every = {name: loading.programs_of(name, loaded.programs) for name in wanted}
    return {
        name: "; ".join(sorted({refused[program] for program in programs}))
        for name, programs in every.items()
        if programs <= refused.keys()
    }


def _try_sandbox() -> dict[str, Attempt]:
    """Whether found files can be read in a child that may do nothing, and in which ways it is held."""
    with Sandbox() as sandbox:
        layers = sandbox.layers
    failure = None if layers else "no child could be made, or it did not answer"
    return {
        "sandbox": Attempt("make a process that may do nothing, to read found files in", failure),
        **{LAYER + layer.name: Attempt(f"hold it by {layer.name}", layer.reason) for layer in layers},
    }
