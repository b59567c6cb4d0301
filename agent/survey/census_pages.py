# SPDX-License-Identifier: Apache-2.0
"""What does every process have mapped and open? Asked of /proc, one process after the other."""

from __future__ import annotations

import os
import re

from agent import errors
from agent.procfs.stat import parse_stat
from agent.survey.census import Census, Sighted, is_headless, read_stat
from agent.survey.descriptors import DESCRIPTORS_MAX, Use
from agent.survey.mapped import Slot
from agent.survey.pages import Pages

_REAL_UID = re.compile(rb"^Uid:[ \t]*([0-9]{1,10})", re.MULTILINE)
# proc_pid_fdinfo(5); flags are octal.
_FLAGS = re.compile(rb"^flags:[ \t]*([0-7]{1,22})$", re.MULTILINE)
_MOUNT = re.compile(rb"^mnt_id:[ \t]*([0-9]{1,10})$", re.MULTILINE)


def take(census: Census, pids: list[int]) -> None:
    """Look at every process."""
    roots = Roots(census)
    for pid in pids:
        if not census.is_own(pid):
            _look(census, roots, pid)
            census.rest()


def sighted(
    census: Census, roots: Roots, pages: Pages, mapped: tuple[Slot, ...], opened: tuple[Use, ...]
) -> Sighted:
    """One process with all that is told of it.

    Raises:
        VanishedError: it has ended.
        HostError: any other reason.
    """
    exe = pages.link("exe")
    stat = parse_stat(pages.read("stat"))
    uid = _REAL_UID.search(pages.read("status"))
    if stat is None or uid is None:
        raise errors.UnreadableError(pages.path, "its pages are not of the documented form")
    is_own_root = roots.is_own(pages)
    try:
        cgroup = pages.read("cgroup")
    except errors.VanishedError:
        # A kernel without cgroups has no such page; a process that ended just now counts.
        cgroup = b""
    placement = census.placement(cgroup, is_own_root=is_own_root)
    return Sighted(pages.pid, stat.start_ticks, stat.name, int(uid[1]), exe, placement, mapped, opened)


def _look(census: Census, roots: Roots, pid: int) -> None:
    """One process: what it has goes to the census, what hinders us to the scan."""
    try:
        with Pages(census.host, pid) as pages:
            mapped = _mapped(census, pages)
            census.counts["processes"] += 1
            opened = _opened(census, roots, pages)
            if mapped or opened:
                census.sighted.append(sighted(census, roots, pages, mapped, opened))
    except errors.VanishedError:
        stat = read_stat(census.host, pid)
        # A thread of the kernel has no memory to look at, nor has what is left of a process.
        if stat is not None and is_headless(census.host, stat):
            census.skip_headless(stat)
        elif stat is None or not (stat.is_kernel_thread or stat.has_ended):
            census.scan.skip("vanished", f"/proc/{pid}")
    except errors.HostError as error:
        census.skip(error.skip, pid)


def _mapped(census: Census, pages: Pages) -> tuple[Slot, ...]:
    """Files that it has mapped, in the order of their addresses."""
    path = f"{pages.path}/maps"
    files = census.mapped
    fd = pages.open("maps")
    try:
        known, others = census.executable(fd, path, files.known)
        found = dict.fromkeys(known)
        for mapping in others:
            try:
                slot = files.denied(mapping.extent, pages.pid)
                if slot is None:
                    names = census.reader.names(fd, mapping, path)
                    slot = files.meet(mapping.extent, pages.pid, mapping, names)
                found[slot] = None
            except errors.VanishedError:
                # Unmapped between two questions. If the whole process has gone, so has its executable.
                continue
    finally:
        os.close(fd)
    return tuple(slot for slot in found if slot is not None)


def _opened(census: Census, roots: Roots, pages: Pages) -> tuple[Use, ...]:
    """Files that it holds open, in the order of its descriptors."""
    found: dict[Use | None, None] = {}
    known = census.opened.known
    namespace: bytes | None = None
    descriptors = pages.descriptors()
    try:
        for count, (number, name) in enumerate(descriptors):
            if count == DESCRIPTORS_MAX:
                census.skip("budget", pages.pid, what="descriptors of process")
                break
            if name is None:
                census.skip("too_large", pages.pid, what="name of an open file of process")
            elif name.startswith(b"/"):
                if namespace is None:
                    namespace = roots.namespace(pages)
                key = (namespace, name)
                use = known[key] if key in known else _meet(census, pages, number, name, namespace)
                found[use] = None
    except errors.VanishedError:
        # A directory that looks like a host may have none. If the process has gone, so has its executable.
        pass
    finally:
        descriptors.close()
    return tuple(use for use in found if use is not None)


def _meet(census: Census, pages: Pages, number: int, name: bytes, namespace: bytes) -> Use | None:
    """A file by a name that was not met before in this mount namespace."""
    try:
        mount = None
        if census.host.root == "/":
            page = pages.read(f"fdinfo/{number}")
            flags, found = _FLAGS.search(page), _MOUNT.search(page)
            # O_TMPFILE has the bit of O_DIRECTORY, and stands for a file without a name (open(2)).
            if flags and int(flags[1], 8) & os.O_TMPFILE == os.O_DIRECTORY:
                return None
            mount = int(found[1]) if found else None
        return census.opened.meet((namespace, name), pages.pid, number, name, mount)
    except errors.VanishedError:
        # Closed meanwhile, as happens all the time.
        return None


class Roots:
    """Whose root directory is ours? Told without touching it: it may lie on a network file system."""

    def __init__(self, census: Census) -> None:
        self._host = census.host
        self._is_live = census.host.root == "/"
        self._own = {b"": True}
        self._own_top: tuple[bytes, ...] | None = None
        if self._is_live:
            with Pages(self._host, self._host.own_pid) as pages:
                self._own[self.namespace(pages)] = True
            self._own_top = _top(self._host.read("/proc/self/mountinfo"))

    def namespace(self, pages: Pages) -> bytes:
        """Which mount namespace a process is in. Raises HostError."""
        # Processes of a host that is a directory say nothing of the kind, and are taken for the host's own.
        return pages.link("ns/mnt") if self._is_live else b""

    def is_own(self, pages: Pages) -> bool:
        """Whether `/` means to a process what it means to us.

        Services have mount namespaces of their own too (PrivateTmp= and the like in systemd.exec(5)), with
        the host's own root: what is mounted there tells.

        Raises:
            HostError: it cannot be known.
        """
        if pages.link("root") != b"/":
            return False
        namespace = self.namespace(pages)
        if namespace not in self._own:
            self._own[namespace] = _top(self._host.read(f"{pages.path}/mountinfo")) == self._own_top
        return self._own[namespace]


def _top(page: bytes) -> tuple[bytes, ...] | None:
    """Device and directory that are mounted last at the root of a mountinfo page (proc_pid_mountinfo(5))."""
    found = None
    for line in page.split(b"\n"):
        fields = line.split(b" ", 5)
        if len(fields) > 4 and fields[4] == b"/":
            found = tuple(fields[2:4])
    return found
