# SPDX-License-Identifier: Apache-2.0
"""What does an ELF file say about itself? Its SONAME, its build id, what it needs, what it loads.

A tiny reader for files of any origin: it reads a few kilobytes by position, never the whole file; every size
in the file is bounded before it is believed, and whatever the bytes are, it gives an answer or
`MalformedElfError`. It reads 32 and 64 bits in both byte orders, and asks segments, as the kernel does: a
file without sections is as good as any. What a file exports is `agent.readers.elf_symbols`.

Sources: System V ABI (gabi) chapters 4 and 5; elf(5).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
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
# A program compiled with a section for each function has many, but none that is linked.
_SECTION_HEADERS_MAX = 4096
# The C library has five.
_NOTE_SECTIONS_MAX = 16
# A file name is at most 255 bytes, and a SONAME is one.
_SONAME_BYTES_MAX = 255
# A browser's main library needs some sixty.
_NEEDED_MAX = 512

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_SHT_NOTE = 7
_PF_X, _PF_W = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME = 1, 5, 10, 14
_GNU, _NT_GNU_BUILD_ID = b"GNU\0", 3
# cmd/link of Go (src/cmd/link/internal/ld/elf.go): ELF_NOTE_GOBUILDID_TAG.
_GO, _NT_GO_BUILD_ID = b"Go\0\0", 4


class MalformedElfError(errors.AgentError):
    """The file begins like an ELF file and is none that can be read."""


class Part(IntEnum):
    """What a loaded segment holds, in the order in which `Elf.contents` gives them."""

    CONSTANTS = 0
    VARIABLES = 1
    MIXED = 2
    """Constants among the code: so linkers did it before `-z separate-code`."""
    CODE = 3


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    size: int

    @property
    def part(self) -> Part:
        if self.flags & _PF_X:
            # Code that begins with the ELF header: nothing keeps it apart from constants.
            return Part.CODE if self.offset else Part.MIXED
        return Part.VARIABLES if self.flags & _PF_W else Part.CONSTANTS


class Layout(NamedTuple):
    """The structures of one of the four kinds of file (two sizes, two byte orders), compiled once."""

    header: struct.Struct
    segment: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct
    note: struct.Struct
    hash_head: struct.Struct
    word: struct.Struct
    bloom: struct.Struct
    symbol: struct.Struct
    is_64: bool
    order: str
    """`<` for least significant byte first, `>` for most."""


def _layout(order: str, *, is_64: bool) -> Layout:
    return Layout(
        # type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, and three on sections
        header=struct.Struct(order + ("HHIQQQIHHHHHH" if is_64 else "HHIIIIIHHHHHH")),
        segment=struct.Struct(order + ("IIQQQQQQ" if is_64 else "IIIIIIII")),
        # name, type, flags, address, offset, size, link, info, alignment, size of an entry
        section=struct.Struct(order + ("IIQQQQIIQQ" if is_64 else "10I")),
        dynamic=struct.Struct(order + ("QQ" if is_64 else "II")),
        note=struct.Struct(order + "III"),
        hash_head=struct.Struct(order + "IIII"),
        word=struct.Struct(order + "I"),
        bloom=struct.Struct(order + ("Q" if is_64 else "I")),
        # 64: name, info, other, section, value, size; 32: name, value, size, info, other, section
        symbol=struct.Struct(order + ("IBBHQQ" if is_64 else "IIIBBH")),
        is_64=is_64,
        order=order,
    )


_LAYOUTS = {
    (size, order): _layout("<" if order == 1 else ">", is_64=size == 2) for size in (1, 2) for order in (1, 2)
}


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
        self.layout = layout
        if len(head) < 16 + layout.header.size:
            raise MalformedElfError("the file ends inside the ELF header")
        fields = layout.header.unpack_from(head, 16)
        segments = self._segments(at=fields[4], size=fields[8], count=fields[9])
        self._loads = [one for one in segments if one.kind == _PT_LOAD]
        self._notes = [(one.offset, one.size) for one in segments if one.kind == _PT_NOTE]
        self._sections = fields[5], fields[10], fields[11]
        self.has_interpreter = any(one.kind == _PT_INTERP for one in segments)
        """Whether the kernel would start it with a dynamic linker: a program, not (only) a library."""
        self.machine = fields[1]
        self._needed: list[int] = []
        self.dynamic = self._read_dynamic(segments)
        """The dynamic section: the last value of each tag."""

    def _segments(self, at: int, size: int, count: int) -> list[_Segment]:
        layout = self.layout.segment
        if not count:
            return []
        if size != layout.size or count > _PROGRAM_HEADERS_MAX:
            raise MalformedElfError(f"{count} program headers of {size} bytes")
        table = self.bytes_at(at, size * count)
        if self.layout.is_64:
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
                entry = self.layout.dynamic
                if one.size > _DYNAMIC_BYTES_MAX:
                    raise MalformedElfError(f"a dynamic section of {one.size} bytes")
                table = self.bytes_at(one.offset, one.size - one.size % entry.size)
                for tag, value in entry.iter_unpack(table):
                    if not tag:
                        break
                    if tag == _DT_NEEDED:
                        self._needed.append(value)
                    found[tag] = value
                break
        return found

    # -- reading ---------------------------------------------------------------------------------------------

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Exactly that much of the file. Every caller has bounded `length`."""
        end = offset + length
        if end <= len(self._head):
            return self._head[offset:end]
        # What lies beyond 2**63 cannot be asked of the kernel, and no file reaches it.
        data = self._read_at(offset, length) if end < 1 << 63 else b""
        if len(data) != length:
            raise MalformedElfError(f"the file ends before byte {end}")
        return data

    def offset_of(self, address: int) -> int:
        """Where in the file a virtual address stands."""
        for one in self._loads:
            if one.address <= address < one.address + one.size:
                return one.offset + address - one.address
        raise MalformedElfError(f"the address {address:#x} is in no part of the file")

    # -- what it says ----------------------------------------------------------------------------------------

    @property
    def soname(self) -> bytes | None:
        """DT_SONAME as its bytes are; None where there is none."""
        at = self.dynamic.get(_DT_SONAME)
        return None if at is None else self._name(at) or None

    @property
    def needed(self) -> tuple[bytes, ...]:
        """DT_NEEDED: SONAMEs of what it is linked with, in its own order."""
        if len(self._needed) > _NEEDED_MAX:
            raise MalformedElfError(f"it needs {len(self._needed)} libraries")
        return tuple(self._name(at) for at in self._needed)

    def _name(self, at: int) -> bytes:
        """A file name in the string table."""
        size = self.dynamic.get(_DT_STRSZ, 0)
        if at >= size or _DT_STRTAB not in self.dynamic:
            raise MalformedElfError("a name is outside the string table")
        length = min(size - at, _SONAME_BYTES_MAX + 1)
        name, end, _ = self.bytes_at(self.offset_of(self.dynamic[_DT_STRTAB]) + at, length).partition(b"\0")
        if not end:
            raise MalformedElfError("a name has no end")
        return name

    def names(self, bytes_max: int) -> bytes:
        """The string table: every symbol it defines or looks for, each between zeros. Empty if there is none.

        Args:
            bytes_max: no more than so much from its beginning.
        """
        if _DT_STRTAB not in self.dynamic:
            return b""
        size = min(self.dynamic.get(_DT_STRSZ, 0), bytes_max)
        return self.bytes_at(self.offset_of(self.dynamic[_DT_STRTAB]), size)

    @property
    def build_id(self) -> str | None:
        """NT_GNU_BUILD_ID in hex; None where there is none."""
        found = self._build_id(self._notes)
        if found is not None:
            return found
        # Go's linker since 1.24 writes one that no segment covers: the kernel does not see it, readelf does.
        try:
            return self._build_id(self._note_sections())
        except MalformedElfError:
            # Nothing that runs depends on section headers, so tools that shrink files leave what they like.
            return None

    def _build_id(self, places: Iterable[tuple[int, int]]) -> str | None:
        for owner, kind, content in self._each_note(places):
            if owner == _GNU and kind == _NT_GNU_BUILD_ID:
                if not 0 < len(content) <= _BUILD_ID_BYTES_MAX:
                    raise MalformedElfError(f"a build id of {len(content)} bytes")
                return content.hex()
        return None

    @property
    def is_go(self) -> bool:
        """Whether Go's linker wrote it, or gave its object to another linker."""
        notes = self._each_note(self._notes)
        return any(owner == _GO and kind == _NT_GO_BUILD_ID for owner, kind, _ in notes)

    def _note_sections(self) -> list[tuple[int, int]]:
        """Where the notes stand by the section headers; nowhere in a file that has none, or cut ones."""
        at, size, count = self._sections
        layout = self.layout.section
        if not at or size != layout.size or count > _SECTION_HEADERS_MAX or at >= 1 << 62:
            return []
        table = self._read_at(at, size * count)
        if len(table) != size * count:
            return []
        sections = [fields for fields in layout.iter_unpack(table) if fields[1] == _SHT_NOTE]
        return [(fields[4], fields[5]) for fields in sections[:_NOTE_SECTIONS_MAX]]

    def _each_note(self, places: Iterable[tuple[int, int]]) -> Iterator[tuple[bytes, int, bytes]]:
        for offset, size_of_notes in places:
            if size_of_notes > _NOTES_BYTES_MAX:
                raise MalformedElfError(f"notes of {size_of_notes} bytes")
            notes = self.bytes_at(offset, size_of_notes)
            # Padded to four bytes, as the kernel reads them, whatever the segment's own alignment is.
            at = 0
            while at + 12 <= len(notes):
                name_size, size, kind = self.layout.note.unpack_from(notes, at)
                start = (at + 12 + name_size + 3) & ~3
                if start + size > len(notes):
                    raise MalformedElfError("a note reaches beyond its segment")
                yield notes[at + 12 : at + 12 + name_size], kind, notes[start : start + size]
                at = (start + size + 3) & ~3

    def bytes_of(self, *parts: Part) -> int:
        """How many bytes of those parts the file loads."""
        return sum(one.size for one in self._loads if one.part in parts)

    def contents(
        self,
        bytes_max: int,
        parts: Sequence[Part] = tuple(Part),
        *,
        chunk_bytes: int = 1 << 20,
        overlap: int = 256,
    ) -> Iterator[bytes]:
        """What the file loads into memory, in overlapping chunks: constants first, then variables, then code.

        Of two parts with constants the later comes first, because linkers put the tables of symbols into the
        other.

        Args:
            bytes_max: at most so many bytes in all.
            parts: only of these.
            chunk_bytes: at most so many at once.
            overlap: how many bytes of each chunk begin the next one, so that nothing is cut in two.
        """
        for one in sorted(self._loads, key=lambda one: (one.part, -one.offset)):
            if one.part not in parts:
                continue
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
