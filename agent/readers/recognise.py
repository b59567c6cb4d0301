# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is a file, or holds it? Told by its ELF content, never by its path.

First by its SONAME, then by what it exports (`library_table`), then by what is linked into it
(`embedded`). The version is what its own bytes state in so many words; where they state none, it is
absent. A file is named by what it says of itself, and everything in it can be forged: so a name in an
inventory says what a file is taken for, and never that it is genuine. That is what packages, build ids and
hashes are for.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace

from agent import errors
from agent.model import canonical
from agent.readers import embedded
from agent.readers.elf import Elf, MalformedElfError, ReadAt, read_at_of, read_elf
from agent.readers.elf_symbols import first_export
from agent.readers.library_table import BY_STEM, BY_SYMBOL, SONAME, Row, stems
from agent.readers.stated_version import first_stated, lone_version

SEARCH_BYTES_MAX = embedded.SEARCH_BYTES_MAX
# How much of a library is searched for its version. The largest of the table have under 6 MiB in all
# (OpenSSL's libcrypto, Botan); the rest is for builds that carry several, and for the JVM's 25.
_VERSION_BYTES_MAX = 32 * 1024 * 1024
# Names that show a module of Python, of the JVM or of node, without knowing what it is called.
_MODULE_ENTRIES = (b"\0PyInit_", b"\0JNI_OnLoad\0", b"\0napi_register_module_v1\0")
_NAMES_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A cryptographic library, as its bytes tell it. Names that are not UTF-8 carry the reversible escape."""

    family: str
    name: str
    soname: str | None
    """Of the file, whatever is in it."""
    version: str | None
    build_id: str | None
    """Of the file, whatever is in it."""
    embedded: bool = False
    """Linked into a program or module of another name."""
    searched_bytes: int = 0
    """How much of the file was read to find that out."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """All that one look at a file gives."""

    library: Recognised | None = None
    sha256: str | None = None
    """Of the whole file, where it was asked for."""
    searched_bytes: int = 0
    is_cut: bool = False
    """The limit came before the end of the search: something may be in it that was not found."""


def recognise(elf: Elf, search_bytes_max: int = SEARCH_BYTES_MAX) -> Recognised | None:
    """The library that a file is or holds, or None where it is none of the table.

    Args:
        elf: the file.
        search_bytes_max: how much of it may be read in search of a library, and of its version.

    Raises:
        MalformedElfError: the file contradicts itself.
        HostError: it cannot be read.
    """
    return _examine(elf, search_bytes_max).library


def recognise_file(fd: int, path: str, search_bytes_max: int = SEARCH_BYTES_MAX) -> Recognised | None:
    """The same for an open file, in the form of `agent.guard.parsing`. See `examine` for what it leaves out.

    Raises:
        MalformedError: the file contradicts itself.
        HostError: it cannot be read.
    """
    return examine(fd, path, search_bytes_max).library


def examine(
    fd: int, path: str, search_bytes_max: int = SEARCH_BYTES_MAX, hash_bytes_max: int = 0
) -> Examined:
    """All that is to be known of an open file, in the form of `agent.guard.parsing`.

    Args:
        fd: the file.
        path: for messages.
        search_bytes_max: as in `recognise`.
        hash_bytes_max: a library without a build id is hashed, if it is not larger than this.

    Raises:
        MalformedError: the file contradicts itself.
        HostError: it cannot be read.
    """
    read_at = read_at_of(fd, path)
    try:
        elf = read_elf(read_at)
        if elf is None:
            return Examined()
        found = _examine(elf, search_bytes_max)
    except MalformedElfError as error:
        raise errors.MalformedError(path, str(error)) from error
    library = found.library
    if library is None or library.build_id is not None or os.lseek(fd, 0, os.SEEK_END) > hash_bytes_max:
        return found
    return replace(found, sha256=_sha256(read_at, hash_bytes_max))


def _sha256(read_at: ReadAt, bytes_max: int) -> str:
    digest = hashlib.sha256()
    at = 0
    while at < bytes_max and (chunk := read_at(at, min(1 << 20, bytes_max - at))):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _examine(elf: Elf, bytes_max: int) -> Examined:
    soname = elf.soname
    match = SONAME.fullmatch(soname) if soname else None
    row = _row_by_soname(elf, match) if match else None
    if row is not None:
        return _named(elf, row, row.name, bytes_max, is_embedded=row.embedded)
    mark = first_export(elf, BY_SYMBOL)
    row = BY_SYMBOL[mark] if mark else None
    if row is not None and row.is_module and not elf.has_interpreter:
        # Where it has a name of its own, that says more than the table's.
        name = canonical.escape_bytes(match["stem"]) if match else row.name
        return _named(elf, row, name, bytes_max)
    if row is not None and row.all_stems & stems(elf.needed):
        # It has symbols of a library that it is linked with: it stands between that and its users.
        row = None
    if row is not None and not match and not elf.has_interpreter and not _is_module(elf):
        return _named(elf, row, row.name, bytes_max)
    search = embedded.search_embedded(elf, bytes_max)
    if search.found is None and row is not None:
        # Its own words tell nothing more than that it exports what only this library has.
        return _named(elf, row, row.name, bytes_max, is_embedded=True)
    if search.found is None:
        return Examined(searched_bytes=search.searched_bytes, is_cut=search.is_cut)
    family, name, version = search.found
    library = Recognised(
        family=family,
        name=name,
        soname=canonical.escape_bytes(soname) if soname else None,
        version=version,
        build_id=elf.build_id,
        embedded=True,
        searched_bytes=search.searched_bytes,
    )
    return Examined(library=library, searched_bytes=search.searched_bytes, is_cut=search.is_cut)


def _row_by_soname(elf: Elf, match: re.Match[bytes]) -> Row | None:
    major = int(match["major"] or 0)
    for row in BY_STEM.get(match["stem"], ()):
        if major < row.major_min:
            continue
        if row.is_fork and (major or not _exports_any(elf, row)):
            continue
        if row.needs and not any(soname in row.needs for soname in elf.needed):
            continue
        return row
    return None


def _exports_any(elf: Elf, row: Row) -> bool:
    mark = first_export(elf, (symbol for symbol, one in BY_SYMBOL.items() if one is row))
    return mark is not None


def _is_module(elf: Elf) -> bool:
    """Whether a language's run-time loads it: then what it exports is beside its purpose."""
    names = elf.names(_NAMES_BYTES_MAX)
    return any(entry in names for entry in _MODULE_ENTRIES)


def _named(elf: Elf, row: Row, name: str, bytes_max: int, *, is_embedded: bool = False) -> Examined:
    """What a row says of the file, with the version that the file states."""
    chunks = elf.contents(min(bytes_max, _VERSION_BYTES_MAX))
    if row.states:
        said = first_stated(row.states, chunks)
    elif row.alone:
        said = lone_version(chunks)
    else:
        said = None
    soname = elf.soname
    library = Recognised(
        family=said.family if said and said.family else row.family,
        name=name,
        soname=canonical.escape_bytes(soname) if soname else None,
        version=said.version if said else None,
        build_id=elf.build_id,
        embedded=is_embedded,
        searched_bytes=said.searched_bytes if said else 0,
    )
    is_cut = said is not None and said.version is None and said.searched_bytes >= bytes_max
    return Examined(library=library, searched_bytes=library.searched_bytes, is_cut=is_cut)
