# SPDX-License-Identifier: Apache-2.0
"""What does an ELF file say about itself? Its SONAME, its build id, what it exports, what it loads.

A tiny reader for files of any origin: it reads a few kilobytes by position, never the whole file; every size
in the file is bounded before it is believed, and whatever the bytes are, it gives an answer or
`MalformedElfError`. It reads 32 and 64 bits in both byte orders.

Sources: System V ABI (gabi) chapters 4 and 5; elf(5); binutils' note on .gnu.hash.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from agent import errors

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> that many bytes of the file, fewer at its end."""

MAGIC = b"\x7fELF"
# One page: the header, the program headers and, in practice, the build id come with a single read.
_HEAD_BYTES = 4096
# The linker writes about ten; a core file's thousands are of no use here.
_PROGRAM_HEADERS_MAX = 256
# 16 bytes an entry; the largest seen (a browser's library) has under 100 entries.
_DYNAMIC_BYTES_MAX = 64 * 1024
_NOTES_BYTES_MAX = 64 * 1024
_BUILD_ID_BYTES_MAX = 64
# A file name is at most 255 bytes, and a SONAME is one.
_SONAME_BYTES_MAX = 255
# One bit in a few per symbol: 1 MiB is enough for several hundred thousand symbols.
_BLOOM_BYTES_MAX = 1024 * 1024
# The linker aims at chains of about one; the longest in 1,311 libraries of a Debian host has 12 links.
_CHAIN_MAX = 64

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_PF_X, _PF_W = 1, 2
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME, _DT_GNU_HASH = 5, 6, 10, 14, 0x6FFFFEF5
_NT_GNU_BUILD_ID = 3


class MalformedElfError(errors.AgentError):
    """The file begins like an ELF file and is none that can be read."""


class Symbol(NamedTuple):
    """A name to look up, with its hash worked out once."""

    name: bytes
    hash: int

    @classmethod
    def of(cls, name: str) -> Symbol:
        """The symbol of that name. The hash is Bernstein's, as .gnu.hash prescribes."""
        value = 5381
        for byte in name.encode():
            value = (value * 33 + byte) & 0xFFFFFFFF
        return cls(name.encode(), value)


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    size: int


class _Layout(NamedTuple):
    """The structures of one of the four kinds of file (two sizes, two byte orders), compiled once."""

    header: struct.Struct
    segment: struct.Struct
    dynamic: struct.Struct
    note: struct.Struct
    hash_head: struct.Struct
    word: struct.Struct
    bloom: struct.Struct
    symbol: struct.Struct
    is_64: bool


def _layout(order: str, *, is_64: bool) -> _Layout:
    return _Layout(
        # type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, and three on sections
        header=struct.Struct(order + ("HHIQQQIHHHHHH" if is_64 else "HHIIIIIHHHHHH")),
        segment=struct.Struct(order + ("IIQQQQQQ" if is_64 else "IIIIIIII")),
        dynamic=struct.Struct(order + ("QQ" if is_64 else "II")),
        note=struct.Struct(order + "III"),
        hash_head=struct.Struct(order + "IIII"),
        word=struct.Struct(order + "I"),
        bloom=struct.Struct(order + ("Q" if is_64 else "I")),
        # 64: name, info, other, section, value, size; 32: name, value, size, info, other, section
        symbol=struct.Struct(order + ("IBBHQQ" if is_64 else "IIIBBH")),
        is_64=is_64,
    )


_LAYOUTS = {
    (size, order): _layout("<" if order == 1 else ">", is_64=size == 2) for size in (1, 2) for order in (1, 2)
}


class _HashTable(NamedTuple):
    bloom: bytes
    bloom_words: int
    bloom_shift: int
    buckets: int
    buckets_at: int
    chains_at: int
    first_symbol: int


def read_elf(read_at: ReadAt) -> Elf | None:
    """The ELF file that can be read so, or None where the bytes are those of something else.

    Raises:
        MalformedElfError: it begins like one and is none.
        HostError: what `read_at` raises goes through.
    """
    head = read_at(0, _HEAD_BYTES)
    return Elf(read_at, head) if head.startswith(MAGIC) else None


class Elf:
    """One ELF file, of which only what is asked for is read.

    Every method and property may raise MalformedElfError, and what `read_at` raises.

    Args:
        read_at: how to read it.
        head: its first _HEAD_BYTES bytes, which begin with MAGIC.
    """

    def __init__(self, read_at: ReadAt, head: bytes) -> None:
        self._read_at = read_at
        self._head = head
        layout = _LAYOUTS.get((head[4], head[5])) if len(head) >= 16 else None
        if layout is None:
            raise MalformedElfError("no known class and byte order")
        self._layout = layout
        if len(head) < 16 + layout.header.size:
            raise MalformedElfError("the file ends inside the ELF header")
        fields = layout.header.unpack_from(head, 16)
        segments = self._segments(at=fields[4], size=fields[8], count=fields[9])
        self._loads = [one for one in segments if one.kind == _PT_LOAD]
        self._notes = [one for one in segments if one.kind == _PT_NOTE]
        self.has_interpreter = any(one.kind == _PT_INTERP for one in segments)
        """Whether the kernel would start it with a dynamic linker: a program, not (only) a library."""
        self._dynamic = self._read_dynamic(segments)

    def _segments(self, at: int, size: int, count: int) -> list[_Segment]:
        layout = self._layout.segment
        if not count:
            return []
        if size != layout.size or count > _PROGRAM_HEADERS_MAX:
            raise MalformedElfError(f"{count} program headers of {size} bytes")
        table = self._bytes(at, size * count)
        if self._layout.is_64:
            return [
                _Segment(kind, flags, offset, address, filled)
                for kind, flags, offset, address, _, filled, _, _ in layout.iter_unpack(table)
            ]
        return [
            _Segment(kind, flags, offset, address, filled)
            for kind, offset, address, _, filled, _, flags, _ in layout.iter_unpack(table)
        ]

    def _read_dynamic(self, segments: list[_Segment]) -> dict[int, int]:
        found: dict[int, int] = {}
        for one in segments:
            if one.kind == _PT_DYNAMIC:
                entry = self._layout.dynamic
                if one.size > _DYNAMIC_BYTES_MAX:
                    raise MalformedElfError(f"a dynamic section of {one.size} bytes")
                table = self._bytes(one.offset, one.size - one.size % entry.size)
                for tag, value in entry.iter_unpack(table):
                    if not tag:
                        break
                    found[tag] = value
                break
        return found

    # -- reading ---------------------------------------------------------------------------------------------

    def _bytes(self, offset: int, length: int) -> bytes:
        """Exactly that much of the file. Every caller has bounded `length`."""
        end = offset + length
        if end <= len(self._head):
            return self._head[offset:end]
        # What lies beyond 2**63 cannot be asked of the kernel, and no file reaches it.
        data = self._read_at(offset, length) if end < 1 << 63 else b""
        if len(data) != length:
            raise MalformedElfError(f"the file ends before byte {end}")
        return data

    def _offset(self, address: int) -> int:
        """Where in the file a virtual address stands."""
        for one in self._loads:
            if one.address <= address < one.address + one.size:
                return one.offset + address - one.address
        raise MalformedElfError(f"the address {address:#x} is in no part of the file")

    # -- what it says ----------------------------------------------------------------------------------------

    @property
    def soname(self) -> bytes | None:
        """DT_SONAME as its bytes are; None where there is none."""
        at = self._dynamic.get(_DT_SONAME)
        if at is None:
            return None
        size = self._dynamic.get(_DT_STRSZ, 0)
        if at >= size or _DT_STRTAB not in self._dynamic:
            raise MalformedElfError("the SONAME is outside the string table")
        length = min(size - at, _SONAME_BYTES_MAX + 1)
        name, end, _ = self._bytes(self._offset(self._dynamic[_DT_STRTAB]) + at, length).partition(b"\0")
        if not end:
            raise MalformedElfError("the SONAME has no end")
        return name or None

    @property
    def build_id(self) -> str | None:
        """NT_GNU_BUILD_ID in hex; None where there is none."""
        for segment in self._notes:
            if segment.size > _NOTES_BYTES_MAX:
                raise MalformedElfError(f"notes of {segment.size} bytes")
            notes = self._bytes(segment.offset, segment.size)
            # Padded to four bytes, as the kernel reads them, whatever the segment's own alignment is.
            at = 0
            while at + 12 <= len(notes):
                name_size, size, kind = self._layout.note.unpack_from(notes, at)
                start = (at + 12 + name_size + 3) & ~3
                if start + size > len(notes):
                    raise MalformedElfError("a note reaches beyond its segment")
                if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 12 + name_size] == b"GNU\0":
                    if not 0 < size <= _BUILD_ID_BYTES_MAX:
                        raise MalformedElfError(f"a build id of {size} bytes")
                    return notes[start : start + size].hex()
                at = (start + size + 3) & ~3
        return None

    def first_export(self, symbols: Iterable[Symbol]) -> Symbol | None:
        """The first of the symbols that the file exports; None also where it has no .gnu.hash to ask."""
        if _DT_GNU_HASH not in self._dynamic:
            return None
        table, word = self._read_hash_table(), self._layout.bloom
        size, words, shift, bloom = word.size, table.bloom_words, table.bloom_shift, table.bloom
        bits, unpack = size * 8, word.unpack_from
        if not words or not table.buckets:
            return None
        for symbol in symbols:
            value = symbol.hash
            filled = unpack(bloom, value // bits % words * size)[0]
            # The filter has two bits for each symbol, and nearly never both of one that is not there.
            if filled >> value % bits & filled >> (value >> shift) % bits & 1 and self._defines(
                symbol, table
            ):
                return symbol
        return None

    def _read_hash_table(self) -> _HashTable:
        at = self._offset(self._dynamic[_DT_GNU_HASH])
        head, word = self._layout.hash_head, self._layout.bloom
        buckets, first_symbol, bloom_words, shift = head.unpack(self._bytes(at, head.size))
        bloom_bytes = bloom_words * word.size
        if bloom_bytes > _BLOOM_BYTES_MAX or shift > 63:
            raise MalformedElfError(f"a symbol hash filter of {bloom_bytes} bytes, shift {shift}")
        at += head.size
        bloom = self._bytes(at, bloom_bytes)
        at += bloom_bytes
        return _HashTable(bloom, bloom_words, shift, buckets, at, at + 4 * buckets, first_symbol)

    def _defines(self, symbol: Symbol, table: _HashTable) -> bool:
        layout, dynamic = self._layout, self._dynamic
        if _DT_SYMTAB not in dynamic or _DT_STRTAB not in dynamic:
            raise MalformedElfError("a symbol hash table without symbols")
        index = layout.word.unpack(self._bytes(table.buckets_at + 4 * (symbol.hash % table.buckets), 4))[0]
        if index < table.first_symbol:
            return False
        for _ in range(_CHAIN_MAX):
            value = layout.word.unpack(self._bytes(table.chains_at + 4 * (index - table.first_symbol), 4))[0]
            if value | 1 == symbol.hash | 1:
                at = self._offset(dynamic[_DT_SYMTAB]) + index * layout.symbol.size
                fields = layout.symbol.unpack(self._bytes(at, layout.symbol.size))
                section = fields[3] if layout.is_64 else fields[5]
                name_at = self._offset(dynamic[_DT_STRTAB]) + fields[0]
                if section and self._bytes(name_at, len(symbol.name) + 1) == symbol.name + b"\0":
                    return True
            if value & 1:
                return False
            index += 1
        raise MalformedElfError("a chain of the symbol hash table has no end")

    def contents(self, bytes_max: int, chunk_bytes: int = 1 << 20, overlap: int = 256) -> Iterator[bytes]:
        """What the file loads into memory, in overlapping chunks: constants first, then variables, then code.

        Of two parts with constants the later comes first, because linkers put the tables of symbols into the
        other. Linkers before `-z separate-code` put constants among the code, so that is looked at too.

        Args:
            bytes_max: at most so many bytes in all.
            chunk_bytes: at most so many at once.
            overlap: how many bytes of each chunk begin the next one, so that nothing is cut in two.
        """
        for one in sorted(self._loads, key=lambda one: (one.flags & _PF_X, one.flags & _PF_W, -one.offset)):
            at, end = one.offset, min(one.offset + one.size, (1 << 63) - 1)
            while at < end and bytes_max > 0:
                data = self._read_at(at, min(chunk_bytes, end - at, bytes_max))
                yield data
                if len(data) <= overlap:
                    break
                bytes_max -= len(data)
                at += len(data) - (overlap if at + len(data) < end else 0)


def read_at_of(fd: int, path: str) -> ReadAt:
    """How to read an open file by position. What it raises is a HostError that names `path`."""

    def read_at(offset: int, length: int) -> bytes:
        try:
            return os.pread(fd, length, offset)
        except OSError as error:
            raise errors.host_error(error, path) from error

    return read_at
