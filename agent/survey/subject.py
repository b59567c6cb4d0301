# SPDX-License-Identifier: Apache-2.0
"""Which process was asked for, and what is it? Asked of /proc, for who looks at one process closely.

A number is a process only together with the moment at which it began: `Subject.start_ticks` tells it from
another one that is given its number later.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from agent import errors
from agent.host import Host, text
from agent.procfs.stat import Stat, parse_stat
from agent.readers.whole import read_fd
from agent.survey.mapped import DELETED
from agent.survey.pages import Pages

_IDS = re.compile(rb"^(Tgid|Uid|Gid):[ \t]*([0-9]{1,10})", re.MULTILINE)
# As much as is shown of it, and more; a page may have two megabytes.
_ARGV_BYTES_MAX = 16 * 1024
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# What the kernel hands out as time since boot and what /proc writes differ by one tick at most.
_TICKS_APART_MAX = 1


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One process as it is now. Names and paths are in the document's form (`agent.host.text`)."""

    pid: int
    start_ticks: int
    parent: int
    name: str
    """comm."""
    exe: str | None
    """Without ` (deleted)`; None where it may not be seen."""
    argv: tuple[bytes, ...] | None
    """Raw, with secrets (see `agent.printing.command_line`); None where it may not be seen."""
    is_argv_cut: bool
    uid: int
    """Real."""
    gid: int
    """Real."""

    def __repr__(self) -> str:
        # Arguments may hold passwords, and a repr ends up in messages.
        return f"<process {self.pid} {self.name}>"

    def is_same(self, pid: int, start_ns: int) -> bool:
        """Whether an event of a process with this number and start is of this one; 0 is a start unknown."""
        if pid != self.pid:
            return False
        return not start_ns or abs(ticks(start_ns) - self.start_ticks) <= _TICKS_APART_MAX


def ticks(start_ns: int) -> int:
    """What /proc says of a process that began so many nanoseconds after boot."""
    return start_ns * _TICKS_PER_S // 1_000_000_000


def by_pid(host: Host, pid: int) -> Subject:
    """The process with that number.

    Raises:
        AgentError: there is none, it is a thread of another one or of the kernel, or it has ended.
    """
    try:
        subject, stat, tgid = _read(host, pid)
    except errors.VanishedError as error:
        raise errors.AgentError(f"there is no process {pid}") from error
    except errors.HostError as error:
        raise errors.AgentError(f"cannot look at process {pid}: {error}") from error
    if tgid != pid:
        raise errors.AgentError(f"{pid} is a thread of process {tgid}; give that number")
    if stat.is_kernel_thread:
        raise errors.AgentError(f"{pid} is a thread of the kernel: it opens and loads nothing")
    if stat.has_ended:
        raise errors.AgentError(f"process {pid} has ended; nobody has asked for its exit status yet")
    return subject


def by_name(host: Host, name: str) -> tuple[Subject, int]:
    """The process with the lowest number among those whose comm contains the name; how many others do.

    The lowest number is nearly always the first that was started, and so of a server the one that started
    the others.

    Args:
        name: compared with case, byte by byte.

    Raises:
        AgentError: there is none.
    """
    wanted = os.fsencode(name)
    found = [
        stat.pid
        for stat in _stats(host)
        if wanted in stat.name and not stat.is_kernel_thread and not stat.has_ended
    ]
    for place, pid in enumerate(found):
        try:
            return by_pid(host, pid), len(found) - 1
        except errors.AgentError:
            # It has ended meanwhile, and the next may not have.
            if place == len(found) - 1:
                raise
    raise errors.AgentError(f"no process is called like {name!r} (names have 15 bytes, and case matters)")


def read(host: Host, pid: int) -> Subject | None:
    """The process with that number; None where it has gone or may not be looked at."""
    try:
        return _read(host, pid)[0]
    except errors.HostError:
        return None


def descendants(host: Host, subject: Subject) -> list[Subject]:
    """Processes that descend from it, by number. Those whose parents have ended are init's children now."""
    parents = {stat.pid: stat.parent for stat in _stats(host) if not stat.has_ended}
    family = {subject.pid}
    size = 0
    while len(family) != size:
        size = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    found = (read(host, pid) for pid in sorted(family - {subject.pid}))
    return [one for one in found if one is not None]


def is_alive(host: Host, subject: Subject) -> bool:
    """Whether it is still there, and no other one by its number."""
    try:
        with Pages(host, subject.pid) as pages:
            stat = parse_stat(pages.read("stat"))
    except errors.HostError:
        return False
    return stat is not None and stat.start_ticks == subject.start_ticks and not stat.has_ended


def start_ns(host: Host, start_ticks: int) -> int:
    """When a process began, in nanoseconds since 1970 UTC by the wall clock of now.

    Ticks of 10 ms are all that /proc tells, so the answer is rounded to them, and two answers are alike.
    """
    since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start_ticks * 1_000_000_000 // _TICKS_PER_S
    tick_ns = 1_000_000_000 // _TICKS_PER_S
    return (host.now_ns() - since_ns + tick_ns // 2) // tick_ns * tick_ns


def _stats(host: Host) -> Iterator[Stat]:
    """Of all processes but the agent's own, by number."""
    own = host.own_pids
    for pid in host.pids():
        if pid in own:
            continue
        try:
            stat = parse_stat(host.read(f"/proc/{pid}/stat"))
        except errors.HostError:
            continue
        if stat is not None:
            yield stat


def _read(host: Host, pid: int) -> tuple[Subject, Stat, int]:
    with Pages(host, pid) as pages:
        stat = parse_stat(pages.read("stat"))
        ids = {match[1]: int(match[2]) for match in _IDS.finditer(pages.read("status"))}
        if stat is None or len(ids) != 3:
            raise errors.UnreadableError(pages.path, "its pages are not of the documented form")
        argv, is_cut = _argv(pages)
        subject = Subject(
            pid=pid,
            start_ticks=stat.start_ticks,
            parent=stat.parent,
            name=text(stat.name.decode("utf-8", "surrogateescape")),
            exe=_exe(pages),
            argv=argv,
            is_argv_cut=is_cut,
            uid=ids[b"Uid"],
            gid=ids[b"Gid"],
        )
    return subject, stat, ids[b"Tgid"]


def _exe(pages: Pages) -> str | None:
    try:
        return text(os.fsdecode(pages.link("exe")).removesuffix(DELETED))
    except errors.HostError:
        return None


def _argv(pages: Pages) -> tuple[tuple[bytes, ...] | None, bool]:
    try:
        fd = pages.open("cmdline")
    except errors.HostError:
        return None, False
    try:
        page = read_fd(fd, _ARGV_BYTES_MAX + 1, f"{pages.path}/cmdline")
    except errors.HostError:
        return None, False
    finally:
        os.close(fd)
    is_cut = len(page) > _ARGV_BYTES_MAX
    # A program that writes its title over its arguments leaves NULs behind it.
    words = page[:_ARGV_BYTES_MAX].rstrip(b"\0").split(b"\0")
    return (tuple(words) if page else ()), is_cut
