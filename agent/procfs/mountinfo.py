# SPDX-License-Identifier: Apache-2.0
"""Which file system does a path lie on? One /proc/PID/mountinfo page: bytes in, records out.

The answer is known without touching the path, so that a dead network file system never holds us up.

Source: Linux Documentation/filesystems/proc.rst section 3.5; proc(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

Nature = Literal["local", "virtual", "foreign"]

# File systems on this machine's own disks or memory. The list says what may be walked, so that a network file
# system nobody has thought of (there are dozens, and vendors add more) is left alone rather than touched.
_LOCAL = """
    aufs bcachefs btrfs cramfs ecryptfs erofs exfat ext2 ext3 ext4 f2fs fuse.fuse-overlayfs fuseblk hfs
    hfsplus iso9660 jffs2 jfs minix msdos nilfs2 ntfs ntfs3 overlay ramfs reiserfs romfs rootfs shiftfs simfs
    squashfs tmpfs ubifs udf ufs vfat xfs zfs
"""
# Made as it is read, by the kernel or for it (lxcfs): nobody keeps files there, and reading some of them does
# things.
_VIRTUAL = """
    bdev binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs functionfs
    fuse.lxcfs fusectl hugetlbfs mqueue nfsd nsfs pipefs proc pstore resctrl rpc_pipefs securityfs selinuxfs
    smackfs sockfs sysfs tracefs usbfs xenfs
"""
_LOCAL_TYPES = frozenset(_LOCAL.split())
_VIRTUAL_TYPES = frozenset(_VIRTUAL.split())
_OCTAL = re.compile(rb"\\([0-7]{3})")
# Numbers until Linux 5.8, words since. With `noaccess` (1) processes are listed, and each says who may look.
_HIDEPID = re.compile(rb"\bhidepid=(2|4|invisible|ptraceable)\b")
_GID = re.compile(rb"\bgid=([0-9]{1,10})\b")


@dataclass(frozen=True)
class Mount:
    """One line of the page. Paths are as the reader's root sees them, `str` with surrogate escapes."""

    number: int
    parent: int
    point: str
    fs_type: str
    device: tuple[int, int] = (0, 0)
    """Major and minor number, as the kernel writes them in /proc/PID/maps too (stat(2) may say others)."""

    @property
    def nature(self) -> Nature:
        """local; virtual: made by the kernel; foreign: on a network, behind a daemon, or unknown."""
        if self.fs_type in _LOCAL_TYPES:
            return "local"
        return "virtual" if self.fs_type in _VIRTUAL_TYPES else "foreign"


def parse_mountinfo(page: bytes) -> list[Mount]:
    """Mounts in the order of the page.

    Args:
        page: the whole page. A line that is not of the documented form is left out: the kernel writes none.
    """
    return [mount for line in page.split(b"\n") if (mount := _parse_line(line)) is not None]


def _parse_line(line: bytes) -> Mount | None:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    before, separator, after = line.partition(b" - ")
    fields = before.split(b" ")
    fs_type = after.split(b" ")[0]
    major, _, minor = fields[2].partition(b":") if len(fields) > 2 else (b"", b"", b"")
    numbers = (*fields[:2], major, minor)
    if not separator or len(fields) < 6 or not all(number.isdigit() for number in numbers) or not fs_type:
        return None
    point = _OCTAL.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), fields[4])
    device = (int(major), int(minor))
    return Mount(int(fields[0]), int(fields[1]), os.fsdecode(point), os.fsdecode(fs_type), device)


def hides_processes(page: bytes, groups: Collection[int]) -> bool:
    """Whether /proc does not list the processes of others to those without CAP_SYS_PTRACE (proc(5), hidepid).

    Args:
        page: the whole page. What is mounted last on /proc is what stands there.
        groups: those of the reader; one group is excepted.
    """
    options = [line.partition(b" - ")[2] for line in page.split(b"\n") if b" / /proc " in line]
    hidden = _HIDEPID.search(options[-1]) if options and options[-1].startswith(b"proc ") else None
    if hidden is None:
        return False
    excepted = _GID.search(options[-1])
    # Without the option it is group 0; `ptraceable` excepts nobody.
    return hidden[1] in (b"4", b"ptraceable") or (int(excepted[1]) if excepted else 0) not in groups


class MountTable:
    """Mounts by place, without those that another mount hides."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        mounts = list(mounts)
        self._top: dict[str, Mount] = {mount.point: mount for mount in _visible(mounts)}

    def of(self, path: str) -> Mount | None:
        """The mount under an absolute path without links; None when the table does not reach so far up."""
        here = path.rstrip("/") or "/"
        while here not in self._top:
            if here == "/":
                return None
            here = here.rpartition("/")[0] or "/"
        return self._top[here]

    def at(self, path: str) -> Mount | None:
        """The mount that begins exactly at a path."""
        return self._top.get(path)


def _visible(mounts: list[Mount]) -> list[Mount]:
    """Those that can be reached by name.

    A mount is hidden when its parent is, when something is mounted on its own root, or when a mount beside it
    (the same parent) stands at a directory above: what was mounted later on top would have that one as its
    parent.
    """
    by_number = {mount.number: mount for mount in mounts}
    places = {(mount.parent, mount.point) for mount in mounts if mount.parent != mount.number}
    verdicts: dict[int, bool] = {}

    def reached(mount: Mount) -> bool:
        # Followed upwards in a loop, because namespaces with thousands of nested mounts exist.
        chain: list[Mount] = []
        here: Mount | None = mount
        answer = True
        while here is not None and here not in chain:
            if here.number in verdicts:
                answer = verdicts[here.number]
                break
            chain.append(here)
            here = by_number.get(here.parent)
        for link in reversed(chain):
            answer = answer and not _beside_above(link, places)
            verdicts[link.number] = answer
        return verdicts[mount.number]

    return [mount for mount in mounts if reached(mount) and (mount.number, mount.point) not in places]


def _beside_above(mount: Mount, places: set[tuple[int, str]]) -> bool:
    here = mount.point
    while here != "/":
        here = here.rpartition("/")[0] or "/"
        if (mount.parent, here) in places:
            return True
    return False
