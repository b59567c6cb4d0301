# SPDX-License-Identifier: Apache-2.0
"""What does every process have mapped and open? Asked of the kernel for all at once, of /proc for the rest.

The kernel gives numbers. A file's name is asked of one process that has it mapped, and to which cgroup a
process belongs of one in each cgroup.
"""

from __future__ import annotations

import os

from agent import census_pages, errors
from agent.census import Census, Sighted
from agent.census_pages import Roots
from agent.descriptors import Use
from agent.kernel.iterators import Head, Held, Iterators, Stretch
from agent.mapped import Slot
from agent.pages import Pages
from agent.procmap import MAPPINGS_MAX

_Identity = tuple[int, int]
"""Number and start."""
_Found = tuple[Head, tuple[Slot, ...], tuple[Use, ...]]


def take(census: Census, iterators: Iterators) -> None:
    """Look at every process, and finish.

    Raises:
        KernelError: the kernel did not show what it must; the census is of no use then.
    """
    uses: dict[_Identity, dict[Use, None]] = {}
    last = 0
    for held in iterators.descriptors(census.opened.known):
        if held.pid != last:
            census.rest()
            last = held.pid
        use = None if census.is_own(held.pid) else _meet_open(census, held)
        if use is not None:
            uses.setdefault((held.pid, held.start_ticks), {})[use] = None
    found: list[_Found] = []
    own_root = None
    for head, met, others, count in iterators.executable(census.mapped.known):
        if head.pid == census.host.own_pid:
            own_root = head.root
        if census.is_own(head.pid):
            continue
        opened = uses.pop((head.pid, head.start_ticks), {})
        if count > MAPPINGS_MAX:
            census.skip("too_large", head.pid, head.name)
            continue
        census.counts["processes"] += 1
        mapped = met + _meet_mapped(census, head, others) if others else met
        if mapped or opened:
            found.append((head, tuple(mapped), tuple(opened)))
        census.rest()
    if own_root is None:
        raise errors.KernelError("the iterators did not show this very process")
    census.finish()
    _place(census, found, own_root)
    roots = Roots(census)
    for (pid, _), opened in uses.items():
        # Nothing that it executes is a file: not even its program.
        if any(use.held for use in opened):
            _look(census, roots, pid, tuple(opened))


def _meet_open(census: Census, held: Held) -> Use | None:
    if not held.key:
        what = "descriptors of process" if held.is_rest else "name of an open file of process"
        census.skip("budget" if held.is_rest else "too_large", held.pid, what=what)
        return None
    known = census.opened.known
    if held.key in known:
        return known[held.key]
    try:
        return census.opened.meet(held.key, held.pid, held.number, held.name, held.mount, tells_file=True)
    except errors.VanishedError:
        # Closed meanwhile, as happens all the time.
        return None


def _meet_mapped(census: Census, head: Head, others: list[Stretch]) -> list[Slot]:
    """Files that were not met before. The process is asked for their names, in its own words for them."""
    path = f"/proc/{head.pid}/maps"
    found = []
    try:
        with Pages(census.host, head.pid) as pages:
            fd = pages.open("maps")
            try:
                mappings = {one.start: one for one in census.executable(fd, path, {})[1]}
                for stretch in others:
                    mapping = mappings.get(stretch.start)
                    if mapping is None or mapping.end - mapping.start != stretch.length:
                        continue
                    names = census.reader.names(fd, mapping, path)
                    slot = census.mapped.meet(stretch.key, head.pid, mapping, names, tells_name=True)
                    if slot is not None:
                        found.append(slot)
            finally:
                os.close(fd)
    except errors.VanishedError:
        # Unmapped or ended meanwhile.
        pass
    except errors.HostError as error:
        census.skip(error.skip, head.pid, head.name)
    return found


def _place(census: Census, found: list[_Found], own_root: int) -> None:
    """Say of those with files that count where they belong."""
    pages: dict[int, bytes] = {}
    for head, mapped, opened in found:
        if census.is_own(head.pid):
            continue
        if not any(slot.mapped for slot in mapped) and not any(use.held for use in opened):
            continue
        try:
            if head.cgroups not in pages:
                pages[head.cgroups] = _cgroup_page(census, head)
            exe = head.exe
            if exe is None:
                with Pages(census.host, head.pid) as directory:
                    exe = directory.link("exe")
        except errors.VanishedError:
            census.scan.skip("vanished", f"/proc/{head.pid}")
            continue
        except errors.HostError as error:
            census.skip(error.skip, head.pid, head.name)
            continue
        placement = census.placement(pages[head.cgroups], is_own_root=head.root == own_root)
        census.sighted.append(
            Sighted(head.pid, head.start_ticks, head.name, head.uid, exe, placement, mapped, opened)
        )


def _cgroup_page(census: Census, head: Head) -> bytes:
    with Pages(census.host, head.pid) as pages:
        try:
            return pages.read("cgroup")
        except errors.VanishedError:
            # A kernel without cgroups has no such page.
            pages.read("stat")
            return b""


def _look(census: Census, roots: Roots, pid: int, opened: tuple[Use, ...]) -> None:
    try:
        with Pages(census.host, pid) as pages:
            census.sighted.append(census_pages.sighted(census, roots, pages, (), opened))
    except errors.VanishedError:
        census.scan.skip("vanished", f"/proc/{pid}")
    except errors.HostError as error:
        census.skip(error.skip, pid)
