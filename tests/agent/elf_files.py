# SPDX-License-Identifier: Apache-2.0
"""Small ELF files for tests: every field in its place, nothing that runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from agent.readers.elf_symbols import Symbol

BUILD_ID = "00112233445566778899aabbccddeeff01234567"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME = 1, 4, 5, 6, 10, 14
_DT_GNU_HASH = 0x6FFFFEF5
_EXECUTE, _WRITE, _READ = 1, 2, 4


class _File:
    """One file as it grows: `put` appends, and the segments say what stands where."""

    def __init__(self, *, is_64: bool, is_big: bool, segments: int) -> None:
        self.is_64, self.is_big = is_64, is_big
        self.segments: list[tuple[int, int, int, int]] = []
        """kind, offset, size, flags"""
        self.blob = bytearray((64 if is_64 else 52) + segments * (56 if is_64 else 32))

    def pack(self, form: str, *values: int) -> bytes:
        """`W` is a word of the file's size."""
        return struct.pack(
            (">" if self.is_big else "<") + form.replace("W", "Q" if self.is_64 else "I"), *values
        )

    def put(self, data: bytes) -> int:
        self.blob.extend(bytes(-len(self.blob) % 8))
        self.blob.extend(data)
        return len(self.blob) - len(data)

    def segment(self, kind: int, data: bytes, flags: int = _READ) -> None:
        """Data that a program header points to; none where there are none."""
        if data:
            self.segments.append((kind, self.put(data), len(data), flags))

    def finished(self) -> bytes:
        head_size, segment_size = (64, 56) if self.is_64 else (52, 32)
        # machine: x86-64 or i386, PowerPC where the order is big.
        machine = (21 if self.is_64 else 20) if self.is_big else (62 if self.is_64 else 3)
        ident = b"\x7fELF" + bytes([2 if self.is_64 else 1, 2 if self.is_big else 1, 1]) + bytes(9)
        sizes = (0, head_size, segment_size, len(self.segments), 0, 0, 0)
        head = ident + self.pack("HHIWWWIHHHHHH", 3, machine, 1, 0, head_size, 0, *sizes)
        for kind, offset, size, flags in self.segments:
            if self.is_64:
                head += self.pack("IIQQQQQQ", kind, flags, offset, offset, offset, size, size, 4)
            else:
                head += self.pack("IIIIIIII", kind, offset, offset, offset, size, size, flags, 4)
        self.blob[: len(head)] = head
        return bytes(self.blob)


def elf_file(
    soname: str | bytes | None = None,
    *,
    build_id: str | None = BUILD_ID,
    exports: Sequence[str] = (),
    constants: bytes = b"",
    is_64: bool = True,
    is_big: bool = False,
    interpreter: bytes | None = None,
    is_defined: bool = True,
    first_note: bytes = b"",
    needed: Sequence[str] = (),
    imports: Sequence[str] = (),
    code_bytes: int = 0,
    variables: bytes = b"",
    is_mixed: bool = False,
    is_go: bool = False,
    is_old_hash: bool = False,
) -> bytes:
    """The bytes of a shared library that says so.

    Args:
        soname: DT_SONAME.
        build_id: in hex.
        exports: symbols that it defines.
        constants: read-only data.
        is_64: 64 bits, else 32.
        is_big: most significant byte first.
        interpreter: makes it a program.
        is_defined: whether the exports are, or only pretend.
        first_note: what another note says that stands before the build id.
        needed: libraries that it is linked with.
        imports: names that it looks for elsewhere; of these only the names are there.
        code_bytes: so much code, in a segment of its own.
        variables: data that it may write to, in a segment of its own.
        is_mixed: whether the constants stand among the code.
        is_go: whether it has the note of Go's linker.
        is_old_hash: whether its exports stand in .hash instead of .gnu.hash.
    """
    notes = bool(build_id) or is_go
    count = 2 + notes + bool(interpreter) + bool(code_bytes) + bool(variables)
    file = _File(is_64=is_64, is_big=is_big, segments=count)
    # The first segment is known when all that stands in it is.
    file.segments.append((_PT_LOAD, 0, 0, 0))
    sonames = [soname.encode() if isinstance(soname, str) else soname] if soname is not None else []
    strings, at = b"\0", {}
    for name in [*sonames, *(one.encode() for one in (*exports, *needed, *imports))]:
        at[name] = len(strings)
        strings += name + b"\0"
    symbols = file.pack("IBBHWW" if is_64 else "IWWBBH", 0, 0, 0, 0, 0, 0)
    for export in exports:
        place, section = at[export.encode()], int(is_defined)
        entry = (place, 0x12, 0, section, 64, 1) if is_64 else (place, 64, 1, 0x12, 0, section)
        symbols += file.pack("IBBHWW" if is_64 else "IWWBBH", *entry)
    table = _old_hash_table(file, len(exports)) if is_old_hash else _hash_table(file, exports)
    dynamic = [
        *((_DT_NEEDED, at[one.encode()]) for one in needed),
        (_DT_STRTAB, file.put(strings)),
        (_DT_STRSZ, len(strings)),
        (_DT_SYMTAB, file.put(symbols)),
        (_DT_HASH if is_old_hash else _DT_GNU_HASH, file.put(table)),
        *((_DT_SONAME, at[name]) for name in sonames),
        (0, 0),
    ]
    file.segment(_PT_DYNAMIC, b"".join(file.pack("WW", tag, value) for tag, value in dynamic))
    file.segment(_PT_NOTE, _notes(file, build_id, first_note, is_go=is_go))
    file.segment(_PT_INTERP, interpreter + b"\0" if interpreter else b"")
    file.put(constants)
    file.segments[0] = (_PT_LOAD, 0, len(file.blob), _READ | _EXECUTE if is_mixed else _READ)
    file.segment(_PT_LOAD, bytes(code_bytes), _READ | _EXECUTE)
    file.segment(_PT_LOAD, variables, _READ | _WRITE)
    return file.finished()


def _notes(file: _File, build_id: str | None, first: bytes, *, is_go: bool) -> bytes:
    notes = b""
    if build_id and first:
        notes += file.pack("III", 6, len(first), 3) + b"Other\0\0\0" + first + bytes(-len(first) % 4)
    if build_id:
        notes += file.pack("III", 4, len(build_id) // 2, 3) + b"GNU\0" + bytes.fromhex(build_id)
    if is_go:
        notes += file.pack("III", 4, 8, 4) + b"Go\0\0" + b"build-id"
    return notes


def _hash_table(file: _File, exports: Sequence[str]) -> bytes:
    """One bucket with all of them, and a filter of one word."""
    hashes = [Symbol.of(export).hash for export in exports]
    bits, bloom = 64 if file.is_64 else 32, 0
    for value in hashes:
        bloom |= 1 << value % bits | 1 << (value >> 5) % bits
    chains = [value & ~1 for value in hashes[:-1]] + [value | 1 for value in hashes[-1:]]
    table = file.pack("IIII", 1, 1, 1, 5) + file.pack("W", bloom) + file.pack("I", 1 if hashes else 0)
    return table + b"".join(file.pack("I", value) for value in chains)


def _old_hash_table(file: _File, exports: int) -> bytes:
    """One bucket with all of them, the last first."""
    chains = [0, *range(exports)]
    return file.pack("III", 1, exports + 1, exports) + b"".join(file.pack("I", one) for one in chains)
