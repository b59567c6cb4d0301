# SPDX-License-Identifier: Apache-2.0
"""Small ELF libraries for tests: every field in its place, nothing that runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from agent.elf import Symbol

BUILD_ID = "00112233445566778899aabbccddeeff01234567"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME, _DT_GNU_HASH = 5, 6, 10, 14, 0x6FFFFEF5


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
    """
    order = ">" if is_big else "<"
    word = "Q" if is_64 else "I"

    def pack(form: str, *values: int) -> bytes:
        return struct.pack(order + form.replace("W", word), *values)

    names = [soname.encode() if isinstance(soname, str) else soname] if soname is not None else []
    strings, at = b"\0", {}
    for name in [*names, *(export.encode() for export in exports)]:
        at[name] = len(strings)
        strings += name + b"\0"
    kinds = [_PT_LOAD, _PT_DYNAMIC, *([_PT_NOTE] if build_id else []), *([_PT_INTERP] if interpreter else [])]
    header_size = (64 if is_64 else 52) + len(kinds) * (56 if is_64 else 32)
    blob = bytearray(header_size)
    places: dict[str, tuple[int, int]] = {}

    def put(what: str, data: bytes) -> int:
        blob.extend(bytes(-len(blob) % 8))
        places[what] = (len(blob), len(data))
        blob.extend(data)
        return places[what][0]

    if build_id:
        identity = bytes.fromhex(build_id)
        other = pack("III", 6, len(first_note), 3) + b"Other\0\0\0" + first_note + bytes(-len(first_note) % 4)
        own = pack("III", 4, len(identity), 3) + b"GNU\0" + identity
        put("note", other + own if first_note else own)
    if interpreter:
        put("interp", interpreter + b"\0")
    symbols, hashes = pack("IBBHWW" if is_64 else "IWWBBH", 0, 0, 0, 0, 0, 0), []
    for export in exports:
        place, section = at[export.encode()], int(is_defined)
        entry = (place, 0x12, 0, section, 64, 1) if is_64 else (place, 64, 1, 0x12, 0, section)
        symbols += pack("IBBHWW" if is_64 else "IWWBBH", *entry)
        hashes.append(Symbol.of(export).hash)
    bits, bloom = struct.calcsize(order + word) * 8, 0
    for value in hashes:
        bloom |= 1 << value % bits | 1 << (value >> 5) % bits
    chains = [value & ~1 for value in hashes[:-1]] + [value | 1 for value in hashes[-1:]]
    table = pack("IIII", 1, 1, 1, 5) + pack("W", bloom) + pack("I", 1 if hashes else 0)
    dynamic = {
        _DT_STRTAB: put("strings", strings),
        _DT_STRSZ: len(strings),
        _DT_SYMTAB: put("symbols", symbols),
        _DT_GNU_HASH: put("hash", table + b"".join(pack("I", value) for value in chains)),
    }
    if names:
        dynamic[_DT_SONAME] = at[names[0]]
    put("dynamic", b"".join(pack("WW", tag, value) for tag, value in dynamic.items()) + pack("WW", 0, 0))
    put("constants", constants)
    spots = {_PT_LOAD: (0, len(blob)), _PT_DYNAMIC: places["dynamic"]}
    spots |= {_PT_NOTE: places.get("note", (0, 0)), _PT_INTERP: places.get("interp", (0, 0))}
    ident = b"\x7fELF" + bytes([2 if is_64 else 1, 2 if is_big else 1, 1]) + bytes(9)
    head_size, segment_size = (64, 56) if is_64 else (52, 32)
    # machine: x86-64 or i386, PowerPC where the order is big.
    machine = (21 if is_64 else 20) if is_big else (62 if is_64 else 3)
    head = ident + pack(
        "HHIWWWIHHHHHH", 3, machine, 1, 0, head_size, 0, 0, head_size, segment_size, len(kinds), 0, 0, 0
    )
    for kind in kinds:
        offset, size = spots[kind]
        if is_64:
            head += pack("IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 4)
        else:
            head += pack("IIIIIIII", kind, offset, offset, offset, size, size, 4, 4)
    blob[: len(head)] = head
    return bytes(blob)
