# SPDX-License-Identifier: Apache-2.0
"""Which of some symbols does an ELF file export? Asked of its hash table, as the dynamic linker would ask.

Both kinds of table are read: .gnu.hash, which nearly every file of the last twenty years has, and the older
.hash, which is all that linkers told `--hash-style=sysv` write, and some vendors' modules have.

Sources: System V ABI (gabi) chapter 5, "Hash Table"; binutils' note on .gnu.hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agent.readers.elf import Elf, MalformedElfError

_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 4, 5, 6, 0x6FFFFEF5
# One bit in a few per symbol: 1 MiB is enough for several hundred thousand symbols.
_BLOOM_BYTES_MAX = 1024 * 1024
# The linker aims at chains of about one; the longest in 1,311 libraries of a Debian host has 12 links.
_CHAIN_MAX = 64
# Chains of .hash are longer (about two symbols to a bucket), and hold no hashes: each step reads a name. This
# is for all symbols of one question, of which there are fifty.
_SYSV_STEPS_MAX = 2000
_SYSV_BYTES_MAX = 4 * 1024 * 1024
# Alpha and 64-bit s390 write .hash in words of eight bytes. Their files have .gnu.hash as well.
_WIDE_HASH_MACHINES = frozenset((22, 0x9026))


class Symbol(NamedTuple):
    """A name to look up, with its hashes worked out once."""

    name: bytes
    hash: int
    sysv_hash: int

    @classmethod
    def of(cls, name: str) -> Symbol:
        """The symbol of that name. The one hash is Bernstein's, as .gnu.hash prescribes; the other ELF's."""
        value, old = 5381, 0
        for byte in name.encode():
            value = (value * 33 + byte) & 0xFFFFFFFF
            old = (old << 4) + byte
            old = (old ^ (old >> 24 & 0xF0)) & 0x0FFFFFFF
        return cls(name.encode(), value, old)


class _HashTable(NamedTuple):
    bloom: bytes
    bloom_words: int
    bloom_shift: int
    buckets: int
    buckets_at: int
    chains_at: int
    first_symbol: int


def first_export(elf: Elf, symbols: Iterable[Symbol]) -> Symbol | None:
    """The first of the symbols that the file exports; None also where it has no table to ask.

    Raises:
        MalformedElfError: the table contradicts itself.
        HostError: the file cannot be read.
    """
    if _DT_GNU_HASH not in elf.dynamic:
        return _first_export_sysv(elf, symbols)
    table, word = _read_hash_table(elf), elf.layout.bloom
    size, words, shift, bloom = word.size, table.bloom_words, table.bloom_shift, table.bloom
    bits, unpack = size * 8, word.unpack_from
    if not words or not table.buckets:
        return None
    for symbol in symbols:
        value = symbol.hash
        filled = unpack(bloom, value // bits % words * size)[0]
        # The filter has two bits for each symbol, and nearly never both of one that is not there.
        if filled >> value % bits & filled >> (value >> shift) % bits & 1 and _defines(elf, symbol, table):
            return symbol
    return None


def _read_hash_table(elf: Elf) -> _HashTable:
    at = elf.offset_of(elf.dynamic[_DT_GNU_HASH])
    head, word = elf.layout.hash_head, elf.layout.bloom
    buckets, first_symbol, bloom_words, shift = head.unpack(elf.bytes_at(at, head.size))
    bloom_bytes = bloom_words * word.size
    if bloom_bytes > _BLOOM_BYTES_MAX or shift > 63:
        raise MalformedElfError(f"a symbol hash filter of {bloom_bytes} bytes, shift {shift}")
    at += head.size
    bloom = elf.bytes_at(at, bloom_bytes)
    at += bloom_bytes
    return _HashTable(bloom, bloom_words, shift, buckets, at, at + 4 * buckets, first_symbol)


def _defines(elf: Elf, symbol: Symbol, table: _HashTable) -> bool:
    word = elf.layout.word
    index = word.unpack(elf.bytes_at(table.buckets_at + 4 * (symbol.hash % table.buckets), 4))[0]
    if index < table.first_symbol:
        return False
    for _ in range(_CHAIN_MAX):
        value = word.unpack(elf.bytes_at(table.chains_at + 4 * (index - table.first_symbol), 4))[0]
        if value | 1 == symbol.hash | 1 and _is_defined(elf, index, symbol):
            return True
        if value & 1:
            return False
        index += 1
    raise MalformedElfError("a chain of the symbol hash table has no end")


def _is_defined(elf: Elf, index: int, symbol: Symbol) -> bool:
    """Whether that entry of the symbol table is this symbol, and one that the file has itself."""
    layout, dynamic = elf.layout, elf.dynamic
    if _DT_SYMTAB not in dynamic or _DT_STRTAB not in dynamic:
        raise MalformedElfError("a symbol hash table without symbols")
    at = elf.offset_of(dynamic[_DT_SYMTAB]) + index * layout.symbol.size
    fields = layout.symbol.unpack(elf.bytes_at(at, layout.symbol.size))
    section = fields[3] if layout.is_64 else fields[5]
    name_at = elf.offset_of(dynamic[_DT_STRTAB]) + fields[0]
    return bool(section) and elf.bytes_at(name_at, len(symbol.name) + 1) == symbol.name + b"\0"


def _first_export_sysv(elf: Elf, symbols: Iterable[Symbol]) -> Symbol | None:
    if _DT_HASH not in elf.dynamic or (elf.layout.is_64 and elf.machine in _WIDE_HASH_MACHINES):
        return None
    at, word = elf.offset_of(elf.dynamic[_DT_HASH]), elf.layout.word
    buckets, chains = (value for (value,) in word.iter_unpack(elf.bytes_at(at, 8)))
    if 4 * (buckets + chains) > _SYSV_BYTES_MAX:
        raise MalformedElfError(f"a symbol hash table of {buckets + chains} words")
    table = elf.bytes_at(at + 8, 4 * (buckets + chains))
    left = _SYSV_STEPS_MAX
    for symbol in symbols if buckets else ():
        (index,) = word.unpack_from(table, 4 * (symbol.sysv_hash % buckets))
        while index:
            left -= 1
            if index >= chains or not left:
                raise MalformedElfError("a chain of the symbol hash table has no end")
            if _is_defined(elf, index, symbol):
                return symbol
            (index,) = word.unpack_from(table, 4 * (buckets + index))
    return None
