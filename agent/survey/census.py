# SPDX-License-Identifier: Apache-2.0
"""What does every process have mapped and open? What all ways of asking share, and what they find.

Each way (`census_kernel`, `census_pages`) tells of every process which files it executes from and which it
holds open. A file is looked at when it is met for the first time; what it is, is known once all have been
read (`Census.finish`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from agent import errors
from agent.host import Host, text
from agent.model.inventory import SkipReason
from agent.model.limits import EXAMPLES_MAX
from agent.procfs import maps
from agent.procfs.cgroup import Placement, parse_cgroup
from agent.procfs.stat import Stat, parse_stat
from agent.scanners import Scan
from agent.survey.descriptors import OpenFiles, Use
from agent.survey.mapped import MappedFiles, Slot
from agent.survey.natures import Natures
from agent.survey.pages import Pages
from agent.survey.procmap import NotOfferedError, QueryReader, Reader, TextReader

# A process whose root directory is not ours, and whose cgroup names no container: what it sees by a path is
# another file than what stands there on the host, though its unit is one of the host's.
OTHER_ROOT = "other-root"

# Processes after one with a file that was not met before. Most files are of no interest, and so are most
# processes then; but reading files one by one takes long where another process does it.
_WAIT_MAX = 16

_T = TypeVar("_T")


class Sighted(NamedTuple):
    """One process with files that count, or that have not been read yet."""

    pid: int
    start_ticks: int
    name: bytes
    uid: int
    """Real."""
    exe: bytes
    """As the kernel writes it, ` (deleted)` included."""
    placement: Placement
    mapped: tuple[Slot, ...]
    opened: tuple[Use, ...]


class Census:
    """One look at all processes. A context manager: leaving it closes what is open."""

    def __init__(self, host: Host, scan: Scan) -> None:
        """Make ready. What hinders it is told to the scan. Raises HostError."""
        self.host = host
        self.scan = scan
        natures = Natures(host)
        self.mapped = MappedFiles(host, scan.skip, natures)
        self.opened = OpenFiles(host, scan.skip, natures)
        self.reader: Reader = QueryReader()
        self.no_query: str | None = None
        """Why the kernel is not asked with PROCMAP_QUERY; None while it is."""
        self.sighted: list[Sighted] = []
        self.counts: Counter[str] = Counter()
        self._placements: dict[bytes, Placement] = {}
        self._own_pids = host.own_pids
        self._waited = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mapped.close()
        self.opened.close()

    def rest(self) -> None:
        """After each process: files that wait are read before many processes are kept for them in vain."""
        if self.mapped.is_waiting or self.opened.is_waiting:
            self._waited += 1
            if self._waited == _WAIT_MAX:
                self._flush()

    def _flush(self) -> None:
        self._waited = 0
        self.mapped.flush()
        self.opened.flush()

    def finish(self) -> None:
        """Have all files read that have been met."""
        self._waited = 0
        self.mapped.settle()
        self.opened.settle()
        # Whoever has read them may have been made for it.
        self._own_pids = self.host.own_pids
        self.sighted = [one for one in self.sighted if one.pid not in self._own_pids]

    def is_own(self, pid: int) -> bool:
        """Whether it is the agent, which is not what it looks for.

        Unpacked from one file, its libraries have new paths each time.
        """
        return pid in self._own_pids

    def executable(
        self, fd: int, path: str, known: Mapping[maps.Extent, _T]
    ) -> tuple[list[_T], list[maps.Mapping]]:
        """As `Reader.executable`, in the better way that this kernel has."""
        try:
            return self.reader.executable(fd, path, known)
        except NotOfferedError as error:
            self.reader = TextReader()
            self.no_query = str(error)
            return self.reader.executable(fd, path, known)

    def placement(self, page: bytes, *, is_own_root: bool) -> Placement:
        """Where a process belongs.

        Args:
            page: its /proc/PID/cgroup.
            is_own_root: whether its root directory is ours.
        """
        found = self._placements.get(page)
        if found is None:
            found = self._placements[page] = parse_cgroup(page)
        if is_own_root or found.container:
            return found
        return Placement(found.unit, OTHER_ROOT)

    def skip_headless(self, stat: Stat) -> None:
        """Count a process whose pages are empty though it goes on (`is_headless`)."""
        self.skip("unreadable", stat.pid, stat.name, "process whose first thread has ended:")

    def skip(self, reason: SkipReason, pid: int, name: bytes | None = None, what: str = "process") -> None:
        """Count a process, or what of it was not looked at, by its name where that is known.

        A number would make the section differ from scan to scan.
        """
        if len(self.scan.examples) >= EXAMPLES_MAX:
            self.scan.skip(reason, "")
            return
        if name is None and (stat := read_stat(self.host, pid)):
            name = stat.name
        called = "of unknown name" if name is None else text(name.decode("utf-8", "surrogateescape"))
        self.scan.skip(reason, f"{what} {called}")


def is_headless(host: Host, stat: Stat) -> bool:
    """Whether a process goes on though its first thread has ended, and so /proc/PID shows nothing of it.

    Where the whole process is ending, its threads have begun to.
    """
    if not stat.has_ended:
        return False
    try:
        with Pages(host, stat.pid) as pages:
            return any(_goes_on(pages, task) for task in host.list_dir(f"{pages.path}/task"))
    except errors.HostError:
        return False


def _goes_on(pages: Pages, task: str) -> bool:
    try:
        stat = parse_stat(pages.read(f"task/{task}/stat"))
    except errors.VanishedError:
        return False
    return stat is not None and not stat.has_ended and not stat.is_ending


def read_stat(host: Host, pid: int) -> Stat | None:
    """A process's stat page; None where there is none to be had."""
    try:
        with Pages(host, pid) as pages:
            return parse_stat(pages.read("stat"))
    except errors.HostError:
        return None
