# SPDX-License-Identifier: Apache-2.0
"""What does every process have mapped and open? Asked of the kernel for all at once, of /proc for the rest.

The kernel gives numbers. A file's name is asked of one process that has it mapped, and to which cgroup a
process belongs of one in each cgroup.
"""

from __future__ import annotations

import os
from contextlib import suppress

from agent import errors
from agent.kernel.iterators import MAPPING, Head, Held, Identity, Iterators
from agent.procfs.maps import Mapping
from agent.survey import census_pages
from agent.survey.census import Census, Sighted, is_headless, read_stat
from agent.survey.census_pages import Roots
from agent.survey.descriptors import Use
from agent.survey.mapped import Slot
from agent.survey.pages import Pages
from agent.survey.procmap import MAPPINGS_MAX

# A device number in the kernel (include/linux/kdev_t.h).
_MINOR_BITS = 20
# For the sets of mappings that are kept: 8,000 of usual size. Others cost 5 us more for each process.
_RUNS_BYTES_MAX = 4 * 1024 * 1024

_Found = tuple[Head, tuple[Slot, ...], tuple[Use, ...]]


def take(census: Census, iterators: Iterators) -> None:
    """Look at every process, and finish.

    Raises:
        KernelError: the kernel did not show what it must; the census is of no use then.
    """
    uses = _open_files(census, iterators)
    found: list[_Found] = []
    own_root = None
    shown: set[int] = set()
    # Processes of one program have the same mappings: one question for all of them.
    runs: dict[bytes, tuple[Slot, ...]] = {}
    room = _RUNS_BYTES_MAX
    for head, run in iterators.mappings():
        pid = head.identity[0]
        shown.add(pid)
        if pid == census.host.own_pid:
            own_root = head.root
        if census.is_own(pid):
            continue
        opened = uses.pop(head.identity, None)
        if len(run) > MAPPINGS_MAX * MAPPING.size:
            census.skip("too_large", pid, head.name)
            continue
        census.counts["processes"] += 1
        mapped = runs.get(run)
        if mapped is None:
            mapped, is_settled = _mapped(census, head, run)
            if is_settled and len(run) <= room:
                runs[run] = mapped
                room -= len(run)
        if mapped or opened:
            found.append((head, mapped, tuple(opened or ())))
        census.rest()
    if own_root is None:
        raise errors.KernelError("the iterators did not show this very process")
    census.finish()
    _count_headless(census, shown)
    _place(census, iterators, found, own_root)
    roots = Roots(census)
    for (pid, _), opened in uses.items():
        # Nothing that it executes is a file: not even its program.
        if not census.is_own(pid) and any(use.held for use in opened):
            _look(census, roots, pid, tuple(opened))


def _open_files(census: Census, iterators: Iterators) -> dict[Identity, dict[Use, None]]:
    """Files by process, in the order of its descriptors."""
    found: dict[Identity, dict[Use, None]] = {}
    last = None
    for identity, one in iterators.descriptors(census.opened.known):
        if identity != last:
            census.rest()
            last = identity
        use = _meet_open(census, identity[0], one) if isinstance(one, Held) else one
        if use is not None:
            if identity in found:
                found[identity][use] = None
            else:
                found[identity] = {use: None}
    return found


def _meet_open(census: Census, pid: int, held: Held) -> Use | None:
    if census.is_own(pid):
        return None
    if not held.key:
        what = "descriptors of process" if held.is_rest else "name of an open file of process"
        census.skip("budget" if held.is_rest else "too_large", pid, what=what)
        return None
    try:
        return census.opened.meet(held.key, pid, held.number, held.name, held.mount, tells_file=True)
    except errors.VanishedError:
        # Closed meanwhile, as happens all the time.
        return None


def _mapped(census: Census, head: Head, run: bytes) -> tuple[tuple[Slot, ...], bool]:
    """Files of mappings that were not met together before, and whether no more will be known of them."""
    known = census.mapped.known
    keys = [run[at : at + MAPPING.size] for at in range(0, len(run), MAPPING.size)]
    others = [key for key in keys if key not in known]
    asked = [key for key in others if census.mapped.denied(key, head.pid) is None]
    if asked:
        _meet_mapped(census, head, asked)
    found = dict.fromkeys(census.mapped.slot(key) for key in keys)
    is_settled = not census.mapped.is_waiting and all(key in known for key in others)
    return tuple(slot for slot in found if slot is not None), is_settled


def _count_headless(census: Census, shown: set[int]) -> None:
    """The kernel shows nothing of a process whose first thread has ended, like /proc."""
    for pid in census.host.pids():
        if pid not in shown and not census.is_own(pid):
            stat = read_stat(census.host, pid)
            if stat is not None and is_headless(census.host, stat):
                census.skip_headless(stat)


def _meet_mapped(census: Census, head: Head, keys: list[bytes]) -> None:
    """Files that were not met before. The process is asked where they are and what they are called."""
    path = f"/proc/{head.pid}/maps"
    try:
        with Pages(census.host, head.pid) as pages:
            fd = pages.open("maps")
            try:
                mappings = census.executable(fd, path, {})[1]
                for key in keys:
                    # What was unmapped meanwhile, another process may still show.
                    with suppress(errors.VanishedError):
                        if mapping := _mapping_of(key, mappings):
                            names = census.reader.names(fd, mapping, path)
                            census.mapped.meet(key, head.pid, mapping, names, tells_name=True)
            finally:
                os.close(fd)
    except errors.VanishedError:
        # It ended meanwhile.
        pass
    except errors.HostError as error:
        census.skip(error.skip, head.pid, head.name)


def _mapping_of(key: bytes, mappings: list[Mapping]) -> Mapping | None:
    """The same mapping as /proc tells of it; None where it has gone."""
    device, _, inode, offset, length, _ = MAPPING.unpack(key)
    extent = (inode, device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1), offset, length)
    like = [one for one in mappings if one.extent[3:] == (offset, length)]
    exact = [one for one in like if one.extent == extent]
    if exact:
        return exact[0]
    # Of a file on overlayfs some kernels tell the numbers of the layer below it in one place and its own in
    # the other (include/linux/fs.h, file_user_inode).
    return like[0] if len(like) == 1 else None


def _place(census: Census, iterators: Iterators, found: list[_Found], own_root: int) -> None:
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
            Sighted(
                head.pid,
                iterators.start_ticks(head.identity),
                head.name,
                head.uid,
                exe,
                placement,
                mapped,
                opened,
            )
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
