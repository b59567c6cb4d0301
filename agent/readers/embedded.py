# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is linked into an ELF file that has another name and another purpose?

A program with OpenSSL inside maps no libcrypto, and exports nothing of it where its makers hid the symbols.
What stays are the library's own tables and messages. They are told by several marks together, which only the
implementation holds, never by words that a mere user of it prints or compares. A file that is linked with a
library (DT_NEEDED) is not said to hold that library too. Whoever forges all the marks gives his own file a
name in an inventory; nothing is trusted the more for being named.

Told: OpenSSL, LibreSSL, BoringSSL, AWS-LC, GnuTLS, libgcrypt, mbedTLS, wolfSSL, NSS, libsodium, Botan,
Crypto++, ring, and Go's own. One file gives one answer, the first of that order: a program with
OpenSSL and libssh2 inside is one with OpenSSL. Not told: nettle, BearSSL and LibTomCrypt, which hold
few words or none; some functions of a library, linked without its tables; code that is data, as Java's is.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.readers.elf import Elf, Part
from agent.readers.library_table import (
    BOTAN_STATES,
    GNUTLS_STATES,
    LIBGCRYPT_STATES,
    MBEDTLS_STATES,
    NSS_STATES,
    OPENSSL_STATES,
    WOLFSSL_STATES,
    Statement,
    says,
    stems,
)
from agent.readers.stated_version import first_stated, lone_version

# The largest file known to hold Go's library has 280 MiB of constants (a provider of Terraform), the largest
# with OpenSSL 57 (node). Searching takes about 0.6 ms of CPU for a MiB.
SEARCH_BYTES_MAX = 512 * 1024 * 1024
# A program with the smallest of these (libsodium) in it has 157 KiB of code. What has less is not searched:
# four in five files of a host, and data that are shipped as libraries (ICU has 30 MiB and no code).
_CODE_BYTES_MIN = 96 * 1024
# A version that stands alone is looked for in smaller files: in a larger one others of that form are certain,
# and this search takes 3 to 10 ms for a MiB.
_LONE_BYTES_MAX = 64 * 1024 * 1024
_PLACES = (Part.CONSTANTS, Part.MIXED)
# Where Go's linker and others put its table of functions.
_GO_PLACES = (Part.CONSTANTS, Part.VARIABLES)

# The names of RSA's object identifiers (PKCS #1) in the table of objects that OpenSSL and all its forks have.
_OBJECTS = b"RSA Data Security, Inc. PKCS"
# An assertion of libsodium's allocator, which every program with libsodium in it starts.
_SODIUM = b"_unprotected_ptr_from_user_ptr(user_ptr) == unprotected_ptr"
# The first round constants of SHA-256 (FIPS 180-4 section 4.2.2): every implementation has this table, though
# some have it among their code. OpenSSL's assembly, which ring has too, writes each four of them twice.
_SHA256 = (
    *(0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1),
    *(0x923F82A4, 0xAB1C5ED5, 0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3),
)
_SHA256_IN_FOURS = _SHA256[:4] * 2 + _SHA256[4:8] * 2
_SHA256_MARK = b"SHA-256"


@dataclass(frozen=True, kw_only=True)
class _Trace:
    """What one library leaves in a file."""

    family: str
    name: str
    marks: tuple[bytes, ...]
    """All of them stand in the file. _SHA256_MARK stands for the table in the file's own byte order."""
    states: tuple[Statement, ...] = ()
    is_stated: bool = False
    """Only where a version is stated too."""
    is_lone: bool = False
    """The version stands in the file as a constant of its own, and there is no other of that form."""
    stems: tuple[bytes, ...]
    """A file linked with one of these is a user of it."""


_DATED = re.escape(b"OpenSSL ") + (
    rb"([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}[a-z]{0,2}(?:-(?!fips)[0-9a-z.]{1,20})?)(?:-fips)? {1,2}(?:FIPS )?"
    rb"[0-9]{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}\0"
)
_OPENSSL_STEMS = (b"libcrypto", b"libssl")
_TRACES = (
    _Trace(
        family="openssl",
        name="libcrypto",
        marks=(_OBJECTS,),
        # With its date and nothing after it: so it stands in crypto/cversion.c and in no user's messages.
        states=(Statement(b"OpenSSL ", re.compile(_DATED)),),
        is_stated=True,
        stems=_OPENSSL_STEMS,
    ),
    # What nobody asks for is left out of a static link, and the version may be. What is left is the default
    # provider's, a constant of its own.
    _Trace(
        family="openssl",
        name="libcrypto",
        marks=(_OBJECTS, b"OpenSSL Default Provider"),
        is_lone=True,
        stems=_OPENSSL_STEMS,
    ),
    _Trace(
        family="libressl",
        name="libcrypto",
        marks=(_OBJECTS,),
        states=OPENSSL_STATES[-1:],
        is_stated=True,
        stems=_OPENSSL_STEMS,
    ),
    # Both forks keep the paths of their sources for their error messages.
    _Trace(
        family="aws-lc",
        name="libcrypto",
        marks=(_OBJECTS, b"crypto/fipsmodule", b"AWS-LC"),
        states=OPENSSL_STATES[1:2],
        stems=_OPENSSL_STEMS,
    ),
    _Trace(
        family="boringssl", name="libcrypto", marks=(_OBJECTS, b"crypto/fipsmodule"), stems=_OPENSSL_STEMS
    ),
    # OpenSSL before 3.0 without its version: the forks write this reason in capitals, or not at all.
    _Trace(family="openssl", name="libcrypto", marks=(_OBJECTS, b"bad object header"), stems=_OPENSSL_STEMS),
    _Trace(
        family="gnutls",
        name="libgnutls",
        marks=(_SHA256_MARK, b"The TLS connection was non-properly terminated."),
        states=GNUTLS_STATES,
        stems=(b"libgnutls",),
    ),
    _Trace(
        family="libgcrypt",
        name="libgcrypt",
        marks=(_SHA256_MARK, b"Oops, secure memory pool already initialized"),
        states=LIBGCRYPT_STATES,
        is_stated=True,
        stems=(b"libgcrypt",),
    ),
    # Users of mbedTLS, and of OpenSSL, know the names of its suites too; they have no SHA-256 of their own.
    _Trace(
        family="mbedtls",
        name="libmbedcrypto",
        marks=(_SHA256_MARK, b"TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256"),
        states=MBEDTLS_STATES,
        stems=(b"libmbedtls", b"libmbedcrypto", *_OPENSSL_STEMS),
    ),
    _Trace(
        family="wolfssl",
        name="libwolfssl",
        marks=(_SHA256_MARK, b"AES-GCM Authentication check fail", b"mp_init error state"),
        states=WOLFSSL_STATES,
        stems=(b"libwolfssl",),
    ),
    _Trace(
        family="nss",
        name="libnss3",
        marks=(_SHA256_MARK, b"Version: NSS "),
        states=NSS_STATES,
        is_stated=True,
        stems=(b"libnss3", b"libfreebl3", b"libfreeblpriv3", b"libsoftokn3"),
    ),
    _Trace(family="libsodium", name="libsodium", marks=(_SODIUM, b"sodium/utils.c"), stems=(b"libsodium",)),
    # Names of classes, as C++ writes them for its run-time types.
    _Trace(
        family="botan",
        name="libbotan",
        marks=(_SHA256_MARK, b"N5Botan9ExceptionE", b"N5Botan7SHA_256E"),
        states=BOTAN_STATES,
        stems=(b"libbotan-2", b"libbotan-3"),
    ),
    _Trace(
        family="cryptopp",
        name="libcryptopp",
        marks=(_SHA256_MARK, b"N8CryptoPP9AlgorithmE", b"N8CryptoPP22BufferedTransformationE"),
        stems=(b"libcrypto++", b"libcryptopp"),
    ),
    # Rust keeps the paths of sources for its panics: `/index.crates.io-6f17d22bba15001f/ring-0.17.8/src/`.
    _Trace(
        family="ring",
        name="ring",
        marks=(_SHA256_MARK, b"/ring-0."),
        states=(says("/ring-", rb"(0\.[0-9]{1,9}\.[0-9]{1,9})/src/"),),
        is_stated=True,
        stems=(),
    ),
)

# Functions in Go's own table of them, which no stripping takes away.
_GO_TLS = b"crypto/tls.(*Conn).clientHandshake"
_GO_OTHERS = (
    b"crypto/rsa.(*",
    b"crypto/ecdsa.(*",
    b"crypto/ed25519.",
    b"crypto/cipher.NewGCM",
    b"x/crypto/ssh.",
)
# Go's debug/buildinfo: 32 bytes of head, of which the second flag says that the version follows it.
_GO_VERSION = Statement(
    b"\xff Go buildinf:",
    re.compile(rb"\xff Go buildinf:.[\x02\x03].{16}[\x01-\x7f]go([0-9][0-9A-Za-z.+-]{0,40})", re.DOTALL),
)


class Found(NamedTuple):
    """A library inside a file."""

    family: str
    name: str
    version: str | None


class Search(NamedTuple):
    """What was found, and what it took."""

    found: Found | None
    searched_bytes: int
    is_cut: bool
    """The limit came before the end: there may be something that was not found."""


_NOTHING = Search(None, 0, is_cut=False)


def search_embedded(elf: Elf, bytes_max: int) -> Search:
    """Look for a library inside a file.

    Args:
        elf: a file that is itself none of the known libraries.
        bytes_max: no more than so much of it is read, and once more so much where there are marks.

    Raises:
        MalformedElfError: the file contradicts itself.
        HostError: it cannot be read.
    """
    if elf.bytes_of(Part.CODE, Part.MIXED) < _CODE_BYTES_MIN:
        return _NOTHING
    bytes_max = min(bytes_max, SEARCH_BYTES_MAX)
    return _search_go(elf, bytes_max) if elf.is_go else _search_others(elf, bytes_max)


def _search_others(elf: Elf, bytes_max: int) -> Search:
    linked = stems(elf.needed)
    traces = [trace for trace in _TRACES if linked.isdisjoint(trace.stems)]
    tables = tuple(
        struct.pack(f"{elf.layout.order}{len(table)}I", *table) for table in (_SHA256, _SHA256_IN_FOURS)
    )
    # One of these stands in every file with any of the libraries in it. Long marks are found several times as
    # fast as those of a few bytes.
    first = [*tables, *dict.fromkeys(trace.marks[0] for trace in traces if trace.marks[0] != _SHA256_MARK)]
    searched = 0
    for number, chunk in enumerate(elf.contents(bytes_max, _PLACES)):
        searched += len(chunk)
        if any(mark in chunk for mark in first):
            search = _tell(elf, traces, tables, number, bytes_max)
            return search._replace(searched_bytes=searched + search.searched_bytes)
    return Search(None, searched, is_cut=searched >= bytes_max)


def _tell(
    elf: Elf, traces: Sequence[_Trace], tables: tuple[bytes, ...], start: int, bytes_max: int
) -> Search:
    """Which of the traces is complete in a file that has the beginning of one."""
    seen: set[bytes] = set()
    searched = 0
    # What is linked from one library stands together, so this begins where the first of it was found.
    chunks = elf.contents(bytes_max, _PLACES)
    before = elf.contents(bytes_max, _PLACES)
    for chunk in itertools.chain(itertools.islice(chunks, start, None), itertools.islice(before, start)):
        searched += len(chunk)
        if _OBJECTS in seen:
            # Traces with this mark come before all others.
            traces = [trace for trace in traces if _OBJECTS in trace.marks]
        wanted = {mark for trace in traces for mark in trace.marks} - seen
        for mark in wanted:
            if any(one in chunk for one in (tables if mark == _SHA256_MARK else (mark,))):
                seen.add(mark)
        if seen.issuperset(traces[0].marks) and traces[0].is_stated:
            version = first_stated(traces[0].states, (chunk,)).version
            if version is not None:
                return Search(Found(traces[0].family, traces[0].name, version), searched, is_cut=False)
    is_cut = searched >= bytes_max
    for trace in traces:
        if not seen.issuperset(trace.marks):
            continue
        chunks = elf.contents(bytes_max, _PLACES)
        said = first_stated(trace.states, chunks) if trace.states else None
        if trace.is_lone and elf.bytes_of(*_PLACES) <= min(bytes_max, _LONE_BYTES_MAX):
            said = lone_version(chunks)
        searched += said.searched_bytes if said else 0
        if (said and said.version) or not trace.is_stated:
            return Search(Found(trace.family, trace.name, said.version if said else None), searched, is_cut)
    return Search(None, searched, is_cut)


def _search_go(elf: Elf, bytes_max: int) -> Search:
    names = {_GO_TLS: "crypto/tls", **dict.fromkeys(_GO_OTHERS, "crypto")}
    searched = 0
    # One after the other: most have the first, and long marks are found several times as fast as short ones.
    for marks in ((_GO_TLS,), _GO_OTHERS):
        for chunk in elf.contents(bytes_max, _GO_PLACES):
            searched += len(chunk)
            mark = next((one for one in marks if one in chunk), None)
            if mark is not None:
                said = first_stated((_GO_VERSION,), elf.contents(bytes_max, (Part.VARIABLES,)))
                found = Found("go", names[mark], said.version)
                return Search(found, searched + said.searched_bytes, is_cut=False)
    return Search(None, searched, is_cut=searched >= 2 * bytes_max)
