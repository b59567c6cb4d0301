# SPDX-License-Identifier: Apache-2.0
"""To which service does a cgroup id belong? The kernel half knows a process by it, even one that has ended.

The id is the inode of the cgroup's directory in the unified hierarchy (bpf_get_current_cgroup_id in
bpf-helpers(7)).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from agent import errors
from agent.host import Host
from agent.procfs.cgroup import Placement, parse_cgroup
from agent.procfs.mountinfo import parse_mountinfo

# A host with thousands of containers has as many directories; a look costs some 10 ms a thousand.
_DIRECTORIES_MAX = 20_000
# Looking takes at most one part in this many of our time, however fast cgroups come and go.
_SHARE = 10
# Ids that have gone; on a host that makes more of them in one window, some are looked for twice.
_GONE_MAX = 100_000


class CgroupPlacements:
    """Placements by cgroup id, learnt from the mounted hierarchy as ids turn up."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[int, Placement] = {}
        # A cgroup is there before its id is heard of, and no other gets the id: what is not found never will
        # be.
        self._gone: set[int] = set()
        self._next_look_s = 0.0
        self._mount = self._find_mount()

    def of(self, cgroup_id: int) -> Placement:
        """The placement; an empty one where the cgroup is unknown or gone."""
        if cgroup_id not in self._known and cgroup_id not in self._gone:
            began_s = time.monotonic()
            if began_s >= self._next_look_s:
                self._look()
                ended_s = time.monotonic()
                self._next_look_s = ended_s + (ended_s - began_s) * (_SHARE - 1)
                if cgroup_id not in self._known and len(self._gone) < _GONE_MAX:
                    self._gone.add(cgroup_id)
        return self._known.get(cgroup_id, Placement())

    def _find_mount(self) -> str | None:
        try:
            mounts = parse_mountinfo(self._host.read("/proc/self/mountinfo"))
        except errors.HostError:
            return None
        return next((mount.point for mount in mounts if mount.fs_type == "cgroup2"), None)

    def _look(self) -> None:
        if self._mount is None:
            return
        for path, inode in self._directories(self._mount):
            name = path[len(self._mount) :] or "/"
            self._known[inode] = parse_cgroup(b"0::" + os.fsencode(name) + b"\n")

    def _directories(self, top: str) -> Iterator[tuple[str, int]]:
        todo = [top]
        for _ in range(_DIRECTORIES_MAX):
            if not todo:
                return
            path = todo.pop()
            try:
                yield path, self._host.stat(path, follow=False).st_ino
                todo += [f"{path}/{name}" for name in self._host.list_directories(path)]
            except errors.HostError:
                # It went while we looked, with its processes.
                continue
