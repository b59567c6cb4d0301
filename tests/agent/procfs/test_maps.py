# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc/PID/maps: real, cut off, and written by somebody who means us harm."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.maps import Mapping, parse_executable

# A cat on Debian 12, shortened to what differs; a line without a name ends with a space.
PAGE = b"""\
55d0c7c4e000-55d0c7c50000 r--p 00000000 fe:00 1181                       /usr/bin/cat
55d0c7c50000-55d0c7c55000 r-xp 00002000 fe:00 1181                       /usr/bin/cat
55d0c7c5a000-55d0c7c5b000 rw-p 0000b000 fe:00 1181                       /usr/bin/cat
55d0e8a5c000-55d0e8a7d000 rw-p 00000000 00:00 0                          [heap]
7f6a1c000000-7f6a1c021000 rwxp 00000000 00:00 0
7f6a1de00000-7f6a1e0e9000 r--p 00000000 fe:00 5522                       /usr/lib/locale/locale-archive
7f6a1e2f4000-7f6a1e449000 r-xp 00026000 fe:00 4419                       /usr/lib/x86_64-linux-gnu/libc.so.6
7f6a1e4a0000-7f6a1e4a1000 r-xs 00000000 00:1b 77                         /dev/shm/code
7ffd4f9f1000-7ffd4fa12000 rw-p 00000000 00:00 0                          [stack]
7ffd4fbb1000-7ffd4fbb3000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
""".replace(b"00:00 0\n", b"00:00 0 \n")


def test_a_page_gives_its_executable_files() -> None:
    """Neither data, nor anonymous memory, nor what the kernel puts there."""
    found = parse_executable(PAGE)

    assert found == [
        Mapping((1181, 0xFE, 0, 0x2000, 0x5000), 0x55D0C7C50000, 0x55D0C7C55000, b"/usr/bin/cat"),
        Mapping(
            (4419, 0xFE, 0, 0x26000, 0x155000),
            0x7F6A1E2F4000,
            0x7F6A1E449000,
            b"/usr/lib/x86_64-linux-gnu/libc.so.6",
        ),
        Mapping((77, 0, 0x1B, 0, 0x1000), 0x7F6A1E4A0000, 0x7F6A1E4A1000, b"/dev/shm/code"),
    ]


def test_a_page_that_is_cut_off_loses_its_last_line_only() -> None:
    """Half a path is another path."""
    whole = parse_executable(PAGE)

    for size in range(len(PAGE)):
        found = parse_executable(PAGE[:size])
        assert found == whole[: len(found)]


def test_a_buffer_longer_than_the_page_is_read_up_to_its_end() -> None:
    """The buffer is used again for the next process, and holds the rest of the last one."""
    assert parse_executable(bytearray(PAGE + PAGE), len(PAGE)) == parse_executable(PAGE)


def test_a_name_that_looks_like_a_line_is_a_name() -> None:
    """Anyone may create a file called so, and map it without execution."""
    innocent = b"7f0000000000-7f0000001000 r--p 00000000 fe:00 7   /tmp/x\\n"
    forged = innocent.replace(b"\\n", b" r-xp 00000000 fe:00 1181 /usr/lib/libssl.so.3\n")

    assert parse_executable(forged) == []
    executable = forged.replace(b"r--p", b"r-xp")
    assert [mapping.name for mapping in parse_executable(executable)] == [
        b"/tmp/x r-xp 00000000 fe:00 1181 /usr/lib/libssl.so.3"
    ]


def test_names_may_hold_any_byte() -> None:
    """Spaces at the end, bytes that are no text, other line breaks."""
    for name in (b"/a b ", b"/\xff\xfe", b"/a\rb", b"/a (deleted)", b"/a\x0bb\x85", b"//"):
        page = b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7                          " + name + b"\n"
        assert [mapping.name for mapping in parse_executable(page)] == [name]


def test_an_escape_may_be_what_it_looks_like() -> None:
    r"""The kernel writes a newline as `\012` and leaves a backslash alone."""
    assert Mapping((1, 0, 0, 0, 0), 0, 0, rb"/a\012b").names == (b"/a\nb", rb"/a\012b")
    assert Mapping((1, 0, 0, 0, 0), 0, 0, rb"/a\011b").names == (rb"/a\011b",)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(page: bytes) -> None:
    """The kernel writes the page, but a fixture or a sandbox may not be one."""
    parse_executable(page)
    parse_executable(PAGE[:200] + page)


def test_this_process_against_the_obvious_way() -> None:
    """Splitting each line at white space is slower and says the same."""
    with tempfile.NamedTemporaryFile(prefix="with space ") as file:
        file.write(bytes(mmap.PAGESIZE))
        file.flush()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC):
            page = Path("/proc/self/maps").read_bytes()
    plain = []
    for line in page.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(None, 5)
        if len(fields) == 6 and "x" in fields[1] and fields[4] != "0":
            start, _, end = fields[0].partition("-")
            plain.append((int(start, 16), int(end, 16), int(fields[4]), os.fsencode(fields[5])))

    found = parse_executable(page)

    assert [(one.start, one.end, one.extent[0], one.name) for one in found] == plain
    assert any(b"with space" in one.name for one in found)
