# SPDX-License-Identifier: Apache-2.0
"""The ELF reader against readers we did not write, and against files that lie."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.notes import iter_notes
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UnreadableError
from agent.readers.elf import Elf, MalformedElfError, Part, read_at_of, read_elf
from agent.readers.elf_symbols import Symbol, first_export
from tests.agent.elf_files import BUILD_ID, elf_file
from tests.agent.real_elf_files import LIBRARIES, PROGRAMS, elf_files

SYMBOLS = [Symbol.of(name) for name in ("SSL_CTX_new", "gnutls_global_init", "malloc")]
LAYOUTS = [
    pytest.param(is_64, is_big, id=f"{64 if is_64 else 32}-{'big' if is_big else 'little'}")
    for is_64 in (True, False)
    for is_big in (True, False)
]


class Counted:
    """A file in memory that counts how much of it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0
        self.asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert 0 <= length <= 1 << 20
        self.reads += 1
        self.asked += length
        return self.data[offset : offset + length]


def read(data: bytes) -> Elf | None:
    """The reader on bytes in memory."""
    return read_elf(Counted(data).read_at)


def ask_everything(data: bytes) -> Counted:
    """Every question there is, put to what may be anything: only the reader's own error may come out."""
    counted = Counted(data)
    try:
        elf = read_elf(counted.read_at)
    except MalformedElfError:
        return counted
    if elf is not None:
        for question in (
            lambda: elf.soname,
            lambda: elf.build_id,
            lambda: elf.needed,
            lambda: elf.is_go,
            lambda: elf.names(1 << 20),
            lambda: elf.bytes_of(*Part),
            lambda: first_export(elf, SYMBOLS),
            lambda: sum(map(len, elf.contents(1 << 20))),
        ):
            try:
                question()
            except MalformedElfError:
                continue
    return counted


def test_names_and_build_ids_are_those_readelf_prints() -> None:
    """readelf is what an operator would check us with: asked of every program and library of this host."""
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf here")
    paths = list(map(str, elf_files(LIBRARIES, *PROGRAMS)))
    said = subprocess.run(
        ["readelf", "--wide", "--dynamic", "--notes", "--", *paths],
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
    ).stdout
    pages = dict(page.split("\n", 1) for page in f"\n{said}".split("\nFile: ")[1:])
    assert pages.keys() == set(paths)

    for path in paths:
        with open(path, "rb") as file:
            elf = read_elf(read_at_of(file.fileno(), path))
            assert elf is not None
            build_ids = re.findall("Build ID: ([0-9a-f]+)", pages[path])
            assert elf.build_id == (build_ids[0] if build_ids else None), path
            sonames = re.findall(r"Library soname: \[(.*)\]", pages[path])
            assert elf.soname == (sonames[0].encode() if sonames else None), path
            needed = re.findall(r"Shared library: \[(.*)\]", pages[path])
            assert elf.needed == tuple(map(str.encode, needed)), path
            assert elf.is_go == ("GO BUILDID" in pages[path]), path


@pytest.mark.parametrize(("is_64", "is_big"), LAYOUTS)
def test_both_sizes_and_both_byte_orders_are_read(is_64: bool, is_big: bool) -> None:
    """An s390x host is big-endian, and 32-bit libraries stand beside 64-bit ones."""
    # Given a file that pyelftools reads as it was meant
    data = elf_file("libssl.so.3", exports=["other", "SSL_CTX_new"], is_64=is_64, is_big=is_big)
    theirs = ELFFile(io.BytesIO(data))
    assert (theirs.elfclass, theirs.little_endian) == (64 if is_64 else 32, not is_big)

    # When it is read
    elf = read(data)

    # Then it says the same
    assert elf is not None
    assert (elf.soname, elf.build_id, elf.has_interpreter) == (b"libssl.so.3", BUILD_ID, False)
    assert (elf.needed, elf.is_go) == ((), False)
    assert first_export(elf, SYMBOLS) == Symbol.of("SSL_CTX_new")


@pytest.mark.parametrize(("is_64", "is_big"), LAYOUTS)
def test_what_it_needs_and_who_linked_it_is_read(is_64: bool, is_big: bool) -> None:
    """What a program is linked with is not inside it, and Go's programs are searched otherwise."""
    needed = ["libssl.so.3", "libc.so.6"]
    data = elf_file(
        needed=needed, is_go=True, code_bytes=100, variables=b"v" * 50, is_64=is_64, is_big=is_big
    )
    theirs = next(one for one in ELFFile(io.BytesIO(data)).iter_segments() if isinstance(one, DynamicSegment))
    assert [getattr(tag, "needed", None) for tag in theirs.iter_tags("DT_NEEDED")] == needed

    elf = read(data)

    assert elf is not None
    assert elf.needed == (b"libssl.so.3", b"libc.so.6")
    assert elf.is_go
    assert elf.build_id == BUILD_ID
    assert (elf.bytes_of(Part.CODE), elf.bytes_of(Part.VARIABLES), elf.bytes_of(Part.MIXED)) == (100, 50, 0)
    assert elf.bytes_of(*Part) > 150


def test_constants_among_the_code_are_told_from_code_alone() -> None:
    """Linkers before `-z separate-code` made one segment of both, which begins with the header."""
    elf = read(elf_file(constants=b"constant", is_mixed=True, code_bytes=100))

    assert elf is not None
    assert (elf.bytes_of(Part.CONSTANTS), elf.bytes_of(Part.CODE)) == (0, 100)
    assert b"constant" in b"".join(elf.contents(1 << 20, [Part.MIXED]))
    assert list(elf.contents(1 << 20, [Part.CONSTANTS])) == []


def test_the_string_table_is_read_to_its_limit() -> None:
    """It holds every name, defined or looked for, and may be said to be of any size."""
    elf = read(elf_file("x.so", exports=["defined"], imports=["looked_for"]))

    assert elf is not None
    assert elf.names(1 << 20) == b"\0x.so\0defined\0looked_for\0"
    assert elf.names(4) == b"\0x.s"


@pytest.mark.parametrize("is_64", [True, False])
def test_a_build_id_that_no_segment_covers_is_found_by_its_section(is_64: bool) -> None:
    """Go's linker since 1.24 writes such; a section table that lies is as good as none."""
    note = struct.pack("<III", 4, 4, 3) + b"GNU\0" + b"\1\2\3\4"
    data = bytearray(elf_file(build_id=None, is_64=is_64) + note)
    form, at = ("<IIQQQQIIQQ", 40) if is_64 else ("<10I", 32)
    section = struct.pack(form, 0, 7, 2, 0, len(data) - len(note), len(note), 0, 0, 4, 0)
    struct.pack_into("<Q" if is_64 else "<I", data, at, len(data))
    struct.pack_into("<HH", data, at + (18 if is_64 else 14), len(section), 1)
    lying = data + section.replace(
        struct.pack("<Q" if is_64 else "<I", len(note)), bytes([255] * (8 if is_64 else 4))
    )

    elf, other, cut = read(bytes(data + section)), read(bytes(lying)), read(bytes(data))

    assert elf is not None
    assert other is not None
    assert cut is not None
    assert (elf.build_id, other.build_id, cut.build_id) == ("01020304", None, None)


def test_what_is_not_there_is_none() -> None:
    """A plug-in has no SONAME, and a build id can be switched off."""
    elf = read(elf_file(None, build_id=None))

    assert elf is not None
    assert (elf.soname, elf.build_id, first_export(elf, SYMBOLS)) == (None, None, None)


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"MZ" + bytes(100), b"#!/bin/sh\n", b"libcrypto.so.3"])
def test_what_does_not_begin_like_one_is_none(data: bytes) -> None:
    """Scripts and Windows programs are mapped too; they are not malformed, they are something else."""
    assert read(data) is None


def test_an_interpreter_makes_a_program() -> None:
    """A program that exports symbols is not a library."""
    elf = read(elf_file(interpreter=b"/lib64/ld-linux-x86-64.so.2"))

    assert elf is not None
    assert elf.has_interpreter


@pytest.mark.parametrize(("is_64", "is_big"), LAYOUTS)
def test_a_file_cut_off_anywhere_gives_an_answer_or_our_error(is_64: bool, is_big: bool) -> None:
    """A library that is being written, or a full disk."""
    data = elf_file(
        "libcrypto.so.3", exports=["SSL_CTX_new"], constants=b"x" * 64, is_64=is_64, is_big=is_big
    )

    for size in range(len(data)):
        ask_everything(data[:size])


@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=12),
    is_64=st.booleans(),
    is_big=st.booleans(),
)
def test_a_file_changed_anywhere_is_bounded(
    changes: list[tuple[int, int]], is_64: bool, is_big: bool
) -> None:
    """Whoever may map a file may write one; root reads it."""
    data = bytearray(
        elf_file("libcrypto.so.3", exports=["a", "SSL_CTX_new", "malloc"], is_64=is_64, is_big=is_big)
    )
    for at, value in changes:
        data[4 + at % (len(data) - 4)] = value

    counted = ask_everything(bytes(data))

    assert counted.reads < 1000
    assert counted.asked < 8 << 20


@given(st.binary(max_size=2000))
def test_any_bytes_after_the_magic_are_bounded(rest: bytes) -> None:
    """Nothing of a file is believed before it is checked."""
    for head in (b"\x7fELF\x02\x01", b"\x7fELF\x01\x02", b"\x7fELF"):
        assert ask_everything(head + rest).asked < 8 << 20


def test_sizes_beyond_belief_are_refused_before_they_are_read() -> None:
    """Each of these would make a reader that trusts it read, or allocate, without end."""
    good = elf_file("libcrypto.so.3", exports=["SSL_CTX_new"])
    header = struct.Struct("<HHIQQQIHHHHHH")
    segment = struct.Struct("<IIQQQQQQ")

    def with_segment(number: int, **fields: int) -> bytes:
        at = 64 + number * segment.size
        names = ("kind", "flags", "offset", "address", "physical", "size", "memory", "align")
        values = dict(zip(names, segment.unpack_from(good, at), strict=True)) | fields
        data = bytearray(good)
        segment.pack_into(data, at, *values.values())
        return bytes(data)

    many = bytearray(good)
    struct.pack_into("<H", many, 16 + header.size - 8, 0xFFFF)
    filters = bytearray(good)
    table = good.index(struct.pack("<IIII", 1, 1, 1, 5))
    struct.pack_into("<I", filters, table + 8, 1 << 28)
    for data in (
        bytes(many),
        with_segment(1, size=1 << 60),
        with_segment(1, offset=(1 << 64) - 8),
    ):
        with pytest.raises(MalformedElfError):
            read(data)
    notes = read(with_segment(2, size=1 << 60))
    assert notes is not None
    with pytest.raises(MalformedElfError, match="notes"):
        notes.build_id  # noqa: B018 - reading it is the question
    elf = read(bytes(filters))
    assert elf is not None
    with pytest.raises(MalformedElfError, match="filter"):
        first_export(elf, SYMBOLS)


def test_a_place_that_no_file_reaches_is_not_asked_of_the_kernel(tmp_path: Path) -> None:
    """The system call takes a signed number."""
    data = bytearray(elf_file("libcrypto.so.3"))
    # The second program header's offset: the dynamic section's.
    struct.pack_into("<Q", data, 64 + 56 + 8, (1 << 63) + 8)
    path = tmp_path / "far"
    path.write_bytes(data)

    with path.open("rb") as file, pytest.raises(MalformedElfError, match="ends before"):
        read_elf(read_at_of(file.fileno(), str(path)))


@pytest.mark.parametrize(("is_64", "is_big"), LAYOUTS)
def test_a_build_id_after_another_note_is_found(is_64: bool, is_big: bool) -> None:
    """Linkers put several notes into one segment, and another vendor's type 3 is no build id."""
    data = elf_file("libssl.so.3", first_note=b"12345", is_64=is_64, is_big=is_big)
    theirs = ELFFile(io.BytesIO(data))
    segment = next(theirs.iter_segments("PT_NOTE"))
    notes = iter_notes(theirs, segment["p_offset"], segment["p_filesz"])
    assert [note["n_desc"] for note in notes][-1] == BUILD_ID

    elf = read(data)

    assert elf is not None
    assert elf.build_id == BUILD_ID


def test_a_disk_that_refuses_is_the_hosts_fault(tmp_path: Path) -> None:
    """Foreign errors are translated at the border."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UnreadableError, match="/some/file"):
            read_elf(read_at_of(fd, "/some/file"))
    finally:
        os.close(fd)


def test_contents_overlap_so_that_nothing_is_cut_in_two() -> None:
    """A version that stands across two chunks is still one."""
    needle = b"OpenSSL 3.0.19 27 Jan 2026"
    for shift in range(0, 1000, len(needle) - 1):
        elf = read(elf_file(constants=bytes(5000 + shift) + needle + bytes(5000)))
        assert elf is not None

        chunks = list(elf.contents(1 << 20, chunk_bytes=1000, overlap=64))

        assert max(map(len, chunks)) <= 1000
        assert any(needle in chunk for chunk in chunks)


def test_contents_end_with_the_budget() -> None:
    """A sparse file may claim any size."""
    elf = read(elf_file(constants=bytes(100_000)))
    assert elf is not None

    assert sum(map(len, elf.contents(10_000, chunk_bytes=1000, overlap=0))) == 10_000
