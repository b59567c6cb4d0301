# SPDX-License-Identifier: Apache-2.0
"""Exports by both kinds of hash table, against a reader and a linker that we did not write."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from agent.readers.elf import Elf, MalformedElfError, read_at_of, read_elf
from agent.readers.elf_symbols import Symbol, first_export
from tests.agent.elf_files import elf_file
from tests.agent.real_elf_files import some_libraries

SYMBOLS = [Symbol.of(name) for name in ("SSL_CTX_new", "gnutls_global_init", "malloc")]
LAYOUTS = [(is_64, is_big) for is_64 in (True, False) for is_big in (True, False)]


def read(data: bytes) -> Elf:
    """The reader on bytes in memory."""
    elf = read_elf(lambda offset, length: data[offset : offset + length])
    assert elf is not None
    return elf


@pytest.mark.parametrize("path", some_libraries(), ids=lambda path: path.name)
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


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_a_linkers_tables_of_either_kind_are_read(style: str, tmp_path: Path) -> None:
    """Some vendors' modules were linked with `--hash-style=sysv`, and have no .gnu.hash."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here")
    names = [f"function_{number}" for number in range(300)]
    source, library = tmp_path / "x.c", tmp_path / "x.so"
    calls = 'int printf(const char *, ...);\nint caller(void) { return printf(""); }\n'
    source.write_text(calls + "".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
    linked = ["gcc", "-shared", "-fPIC", f"-Wl,--hash-style={style}", "-o", str(library), str(source)]
    subprocess.run(linked, check=True)

    elf = read(library.read_bytes())

    assert all(first_export(elf, [Symbol.of(name)]) == Symbol.of(name) for name in names)
    assert first_export(elf, map(Symbol.of, ("printf", "absent", "function_300"))) is None
    assert first_export(elf, map(Symbol.of, ("absent", *names))) == Symbol.of("function_0")


@pytest.mark.parametrize("is_old_hash", [True, False])
@pytest.mark.parametrize(("is_64", "is_big"), LAYOUTS)
def test_both_sizes_and_byte_orders_are_read(is_64: bool, is_big: bool, is_old_hash: bool) -> None:
    """32-bit modules stand beside 64-bit ones, and s390x is big-endian."""
    exports = ["other", "SSL_CTX_new", "third"]
    elf = read(elf_file(exports=exports, is_64=is_64, is_big=is_big, is_old_hash=is_old_hash))

    assert first_export(elf, SYMBOLS) == Symbol.of("SSL_CTX_new")
    assert first_export(elf, SYMBOLS[1:]) is None


@pytest.mark.parametrize("is_old_hash", [True, False])
def test_a_symbol_that_only_pretends_is_no_export(is_old_hash: bool) -> None:
    """An entry of the hash table may be one that the library itself looks for elsewhere."""
    elf = read(elf_file("x.so", exports=["SSL_CTX_new"], is_defined=False, is_old_hash=is_old_hash))

    assert first_export(elf, SYMBOLS) is None


def test_a_chain_without_end_is_cut() -> None:
    """The last entry of a chain is marked; here none is, and none fits."""
    elf = read(elf_file("x.so", exports=[f"symbol_{number}" for number in range(2000)]))
    wanted = Symbol.of("symbol_1999")

    # Given more symbols in one chain than any linker makes, and the wanted one at its end
    with pytest.raises(MalformedElfError, match="no end"):
        first_export(elf, [wanted])


def test_an_old_chain_that_bites_its_tail_is_cut() -> None:
    """.hash has no mark of an end but the number 0."""
    exports = ["a", "b"]
    data = bytearray(elf_file("x.so", exports=exports, is_old_hash=True))
    table = data.index(b"\1\0\0\0\3\0\0\0\2\0\0\0")
    # The chain's second link now leads to itself.
    data[table + 12 + 4] = 1

    with pytest.raises(MalformedElfError, match="no end"):
        first_export(read(bytes(data)), [Symbol.of("absent")])


@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=12),
    is_64=st.booleans(),
)
def test_an_old_table_changed_anywhere_is_bounded(changes: list[tuple[int, int]], is_64: bool) -> None:
    """Whoever may map a file may write one; root reads it."""
    data = bytearray(elf_file("x.so", exports=["a", "SSL_CTX_new", "malloc"], is_64=is_64, is_old_hash=True))
    for at, value in changes:
        data[4 + at % (len(data) - 4)] = value
    asked: list[int] = []

    def read_at(offset: int, length: int) -> bytes:
        assert offset >= 0
        asked.append(length)
        return bytes(data[offset : offset + length])

    try:
        elf = read_elf(read_at)
        assert elf is not None
        first_export(elf, SYMBOLS)
    except MalformedElfError:
        pass

    assert len(asked) < 5000
    assert sum(asked) < 8 << 20
