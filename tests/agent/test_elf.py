# SPDX-License-Identifier: Apache-2.0
"""The ELF reader against readers we did not write, and against files that lie."""

from __future__ import annotations

import io
import os
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

from agent.elf import Elf, MalformedElfError, read_at_of, read_elf
from agent.elf_symbols import Symbol, first_export
from agent.errors import UnreadableError
from tests.agent.elf_files import BUILD_ID, elf_file

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
            lambda: first_export(elf, SYMBOLS),
            lambda: sum(map(len, elf.contents(1 << 20))),
        ):
            try:
                question()
            except MalformedElfError:
                continue
    return counted


def libraries() -> list[Path]:
    """Real libraries of this host, the larger part of them no crypto."""
    folder = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"
    found = sorted(path for path in (folder if folder.is_dir() else Path("/usr/lib64")).glob("lib*.so.*"))
    real = [path for path in found if path.is_file() and not path.is_symlink()]
    # The other reader takes 10 s for a compiler's library.
    return [path for path in real if path.stat().st_size < 4 << 20][::12]


@pytest.mark.parametrize("path", libraries(), ids=lambda path: path.name)
def test_soname_and_build_id_are_those_readelf_prints(path: Path) -> None:
    """readelf is what an operator would check us with."""
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf here")
    said = subprocess.run(
        ["readelf", "-W", "-d", "-n", path], capture_output=True, text=True, check=True
    ).stdout
    soname = said.partition("Library soname: [")[2].partition("]")[0] or None
    build_id = said.partition("Build ID: ")[2].partition("\n")[0].strip() or None

    with path.open("rb") as file:
        elf = read_elf(read_at_of(file.fileno(), str(path)))
        assert elf is not None
        found = elf.soname, elf.build_id

    assert found == (soname.encode() if soname else None, build_id)


@pytest.mark.parametrize("path", libraries(), ids=lambda path: path.name)
def test_exports_are_those_another_reader_finds(path: Path) -> None:
    """The hash table is walked by hand; pyelftools walks it too."""
    with path.open("rb") as file:
        dynamic = next(one for one in ELFFile(file).iter_segments() if isinstance(one, DynamicSegment))
        # Offset 0 in the symbol's section index: imported, not exported.
        defined = [one.name for one in dynamic.iter_symbols() if one["st_shndx"] != "SHN_UNDEF" and one.name]
        imported = {one.name for one in dynamic.iter_symbols()} - set(defined)
        elf = read_elf(read_at_of(file.fileno(), str(path)))
        assert elf is not None

        for name in defined[:: max(1, len(defined) // 50)]:
            symbol = Symbol.of(name)
            assert first_export(elf, [symbol]) == symbol
        assert first_export(elf, map(Symbol.of, sorted(imported - {""}))) is None
        assert first_export(elf, [Symbol.of("no_such_symbol_anywhere")]) is None


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
    assert first_export(elf, SYMBOLS) == Symbol.of("SSL_CTX_new")


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


def test_a_symbol_that_only_pretends_is_no_export() -> None:
    """An entry of the hash table may be one that the library itself looks for elsewhere."""
    elf = read(elf_file("x.so", exports=["SSL_CTX_new"], is_defined=False))

    assert elf is not None
    assert first_export(elf, SYMBOLS) is None


def test_a_chain_without_end_is_cut() -> None:
    """The last entry of a chain is marked; here none is, and none fits."""
    data = bytearray(elf_file("x.so", exports=[f"symbol_{number}" for number in range(2000)]))
    elf = read(bytes(data))
    assert elf is not None
    wanted = Symbol.of("symbol_1999")

    # Given more symbols in one chain than any linker makes, and the wanted one at its end
    with pytest.raises(MalformedElfError, match="no end"):
        first_export(elf, [wanted])


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
