# SPDX-License-Identifier: Apache-2.0
r"""What does a process execute from? The executable, file-backed lines of one /proc/PID/maps page.

    7f1c2a0c5000-7f1c2a341000 r-xp 000c5000 fe:00 131095                     /usr/lib/libcrypto.so.3

Source: Linux fs/proc/task_mmu.c (show_map_vma) and fs/seq_file.c (seq_path, which writes a newline as `\012`
and leaves a backslash alone, so that the two cannot be told apart from the page).
"""

from __future__ import annotations

import re
from typing import NamedTuple

Extent = tuple[int, int, int, int, int]
"""Which bytes of which file: inode, device major, device minor, offset, length.

A library's code has one extent in all processes. Where several trees of files share one device number and
number their files alike (btrfs), offset and length tell two builds apart."""

# A line is found by what stands around its `x`, which is quick, and then read from its beginning, which is
# sure: a path may hold anything but a newline.
_SIGN = re.compile(rb"x[ps] [0-9a-f]{8,16} [0-9a-f]{2,8}:[0-9a-f]{2,8} [1-9]")
_LINE = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) [r-][w-]x[ps] ([0-9a-f]{8,16}) ([0-9a-f]{2,8}):([0-9a-f]{2,8})"
    rb" ([1-9][0-9]{0,19}) +([^\n]*)\n"
)


class Mapping(NamedTuple):
    """One executable, file-backed stretch of a process's memory."""

    extent: Extent
    start: int
    end: int
    name: bytes = b""
    """As the page has it, ` (deleted)` included; empty where the kernel was not asked."""

    @property
    def names(self) -> tuple[bytes, ...]:
        r"""What the page's name may stand for, the likelier first: `\012` is a newline, or is itself."""
        if rb"\012" in self.name:
            return self.name.replace(rb"\012", b"\n"), self.name
        return (self.name,)


def parse_executable(page: bytes | bytearray, end: int | None = None) -> list[Mapping]:
    """Executable file-backed mappings in the order of their addresses.

    Args:
        page: the whole page, or a buffer that holds it. A last line without its newline is left out.
        end: how much of the buffer is the page.
    """
    found = []
    size = len(page) if end is None else end
    for sign in _SIGN.finditer(page, 0, size):
        match = _LINE.match(page, page.rfind(b"\n", 0, sign.start()) + 1, size)
        if match is None or match.start(3) != sign.start() + 3:
            continue
        low, high, offset, major, minor, inode, name = match.groups()
        first, last = int(low, 16), int(high, 16)
        extent = (int(inode), int(major, 16), int(minor, 16), int(offset, 16), last - first)
        found.append(Mapping(extent, first, last, bytes(name)))
    return found
