# SPDX-License-Identifier: Apache-2.0
"""What is the file that an event tells of? Its content tells, while the file can be reached and it is cheap.

An event names a path as its process sees it. It is looked up in that process's own mounts, one component
after the other, so that no network file system is touched and no link leads out of a container; then its
first bytes are read by the host's parser. Where that cannot be done, the name is all there is.

A stream has few files and many events, so an answer is kept for a while. What is asked about for the first
time costs some 100 us and more, and whoever opens files by the thousand shall not have the agent read them
all: beyond a number in each second, the name decides too.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import NamedTuple

from agent import errors
from agent.guard.parsing import Opened
from agent.host import LINKS_MAX, Host
from agent.kernel.probes.file_open import FileOpen
from agent.model import canonical
from agent.procfs.mountinfo import MountTable, parse_mountinfo
from agent.procfs.stat import parse_stat
from agent.readers.file_kind import UNKNOWN, FileKind, hinted, read_kind
from agent.survey.pages import Pages

# Paths by mount namespace: a busy server opens some dozens of such files, by some hundred names.
CACHE_MAX = 4096
# A file may be replaced, a namespace's number given to another. A certificate's successor is one too.
KEEP_S = 60.0
# What was nothing may be in the middle of being written.
KEEP_NOTHING_S = 1.0
# With that, the agent uses a tenth of a core at most for looking at files.
LOOKS_PER_S = 250
# Mounts change rarely; a table is read again after this time.
_TABLE_KEEP_S = 10.0
_TABLES_MAX = 64
# The kernel writes one tick for so many nanoseconds of CLOCK_BOOTTIME into /proc/PID/stat.
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class _Answer(NamedTuple):
    kind: FileKind
    until_s: float


class _Ground(NamedTuple):
    """Where a mount namespace's paths begin for us, and what is mounted below."""

    prefix: str
    table: MountTable
    until_s: float


class FileTypes:
    """Kinds of the files of one stream of events. Not for several threads."""

    def __init__(self, host: Host) -> None:
        """Make ready.

        Args:
            host: the running host; its parser reads the files.
        """
        self._host = host
        self._answers: dict[tuple[int, str], _Answer] = {}
        self._grounds: dict[int, _Ground] = {}
        self._second = 0
        self._looks = 0
        self._unread = 0
        self._own_namespace = _inode(host, "/proc/self/ns/mnt")

    def unread(self) -> tuple[str, ...]:
        """What could be opened and not be read, in words; none where there is nothing to say."""
        return (f"{self._unread} files told by name alone: they could not be read",) if self._unread else ()

    def of(self, event: FileOpen) -> FileKind:
        """The kind of the event's file; of one that cannot be read, what its name promises."""
        key = (event.mount_ns, event.file)
        now_s = time.monotonic()
        answer = self._answers.get(key)
        if answer is not None and now_s < answer.until_s:
            return answer.kind
        kind = self._look(event, now_s)
        keep_s = KEEP_NOTHING_S
        if kind is not None and kind.kind is not None:
            keep_s = KEEP_S
        elif kind is None or _is_written(event):
            # A file that is just being made holds what its name promises only later.
            kind = hinted(event.file.removesuffix(" (deleted)")) or UNKNOWN
        if len(self._answers) >= CACHE_MAX:
            for old in list(islice(self._answers, CACHE_MAX // 4)):
                del self._answers[old]
        self._answers[key] = _Answer(kind, now_s + keep_s)
        return kind

    def _look(self, event: FileOpen, now_s: float) -> FileKind | None:
        """What its content is; None where it was not read."""
        # The path of a failed open mostly leads to nothing, and that of an unknown directory nowhere.
        if event.result < 0 or event.truncated or not event.file.startswith("/") or not self._may_look(now_s):
            return None
        path = os.fsdecode(canonical.unescape_text(event.file))
        try:
            ground = self._ground(event, now_s)
            real = None if ground is None else _resolved(self._host, ground, path)
            fd = None if real is None else self._host.open_regular(real)
        except errors.HostError:
            return None
        if fd is None:
            return None
        try:
            answer = self._host.parse(read_kind, [Opened(fd, path)])[0]
        finally:
            os.close(fd)
        if isinstance(answer, errors.HostError):
            self._unread += 1
            return None
        return answer

    def _may_look(self, now_s: float) -> bool:
        if int(now_s) != self._second:
            self._second, self._looks = int(now_s), 0
        self._looks += 1
        return self._looks <= LOOKS_PER_S

    def _ground(self, event: FileOpen, now_s: float) -> _Ground | None:
        """The event's mounts; None where its process has ended and took them along. Raises HostError."""
        is_own = event.mount_ns in (0, self._own_namespace)
        # Processes of one namespace may have different roots (chroot), so only ours is shared.
        key = 0 if is_own else event.pid
        known = self._grounds.get(key)
        if known is not None and now_s < known.until_s and (is_own or self._is_alive(event)):
            return known
        whose = "self"
        if not is_own:
            if not self._is_alive(event):
                self._grounds.pop(key, None)
                return None
            whose = str(event.pid)
        mounts = parse_mountinfo(self._host.read(f"/proc/{whose}/mountinfo"))
        prefix = "" if is_own else f"/proc/{event.pid}/root"
        ground = _Ground(prefix, MountTable(mounts), now_s + _TABLE_KEEP_S)
        if len(self._grounds) >= _TABLES_MAX:
            self._grounds.clear()
        self._grounds[key] = ground
        return ground

    def _is_alive(self, event: FileOpen) -> bool:
        """Whether its process is still there, and not another one by its number. Raises HostError."""
        with Pages(self._host, event.pid) as pages:
            stat = parse_stat(pages.read("stat"))
        # The kernel rounds down to ticks, and its own offsets may make one of them.
        return stat is not None and (
            not event.start_ns or abs(stat.start_ticks - event.start_ns // _TICK_NS) <= 1
        )


def _resolved(host: Host, ground: _Ground, path: str) -> str | None:
    """A path for us, without links, as its process would find it; None where it may not be touched.

    Raises:
        HostError: something on the way cannot be read.
    """
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            continue
        here = "/".join(["", *done, name])
        mount = ground.table.of(here)
        if mount is None or mount.nature != "local":
            return None
        try:
            target = host.read_link(ground.prefix + here)
        except errors.UnreadableError:
            # EINVAL: it is no link.
            done.append(name)
            continue
        links += 1
        if links > LINKS_MAX:
            return None
        if target.startswith("/"):
            done.clear()
        todo.extend(target.split("/")[::-1])
    return "/".join([ground.prefix, *done])


def _is_written(event: FileOpen) -> bool:
    return "O_WRONLY" in event.flags or "O_RDWR" in event.flags


def _inode(host: Host, path: str) -> int:
    try:
        return host.stat(path).st_ino
    except errors.HostError:
        return 0
