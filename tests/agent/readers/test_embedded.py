# SPDX-License-Identifier: Apache-2.0
"""Libraries inside files of another name: told by several marks together, and by no user's words."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.bindings import _rust

from agent.readers.elf import read_at_of, read_elf
from agent.readers.embedded import Search, search_embedded
from agent.readers.recognise import examine
from tests.agent.elf_files import elf_file
from tests.agent.real_elf_files import LIBRARIES, PROGRAMS, elf_files

OBJECTS = b"RSA Data Security, Inc. PKCS"
DATED = b"OpenSSL 3.5.7 9 Jun 2026"
# FIPS 180-4 section 4.2.2, from the first.
ROUND_CONSTANTS = (
    *(0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5),
    *(0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174),
)
SHA256 = struct.pack("<16I", *ROUND_CONSTANTS)
IN_FOURS = b"".join(2 * SHA256[at : at + 16] for at in range(0, 64, 16))
CODE_BYTES = 200_000
GO_VERSION = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x08go1.24.3"

# family, name, version, and all that stands in such a file
TRACES = [
    ("openssl", "libcrypto", "3.5.7", [OBJECTS, DATED]),
    ("openssl", "libcrypto", "1.1.1k", [OBJECTS, b"OpenSSL 1.1.1k  FIPS 25 Mar 2021"]),
    ("openssl", "libcrypto", "1.0.2k", [OBJECTS, b"OpenSSL 1.0.2k-fips  26 Jan 2017"]),
    ("openssl", "libcrypto", "3.0.22", [OBJECTS, b"OpenSSL Default Provider", b"3.0.22"]),
    ("openssl", "libcrypto", None, [OBJECTS, b"OpenSSL Default Provider"]),
    ("openssl", "libcrypto", None, [OBJECTS, b"bad object header"]),
    ("libressl", "libcrypto", "3.8.2", [OBJECTS, b"LibreSSL 3.8.2"]),
    ("aws-lc", "libcrypto", "5.12.0", [OBJECTS, b"/aws-lc/crypto/fipsmodule/aes/aes.c", b"AWS-LC 5.12.0"]),
    ("aws-lc", "libcrypto", "3.0.0", [OBJECTS, b"crypto/fipsmodule/bcm.c", b"AWS-LC FIPS 3.0.0"]),
    ("aws-lc", "libcrypto", None, [OBJECTS, b"crypto/fipsmodule/bcm.c", b"AWS-LC KEM method"]),
    ("boringssl", "libcrypto", None, [OBJECTS, b"third_party/boringssl/crypto/fipsmodule/bcm.cc"]),
    (
        "gnutls",
        "libgnutls",
        "3.7.9",
        [SHA256, b"The TLS connection was non-properly terminated.", b"Enabled GnuTLS 3.7.9 logging..."],
    ),
    (
        "libgcrypt",
        "libgcrypt",
        "1.10.1",
        [SHA256, b"Oops, secure memory pool already initialized", b"This is Libgcrypt 1.10.1 - "],
    ),
    ("mbedtls", "libmbedcrypto", None, [SHA256, b"TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256"]),
    (
        "mbedtls",
        "libmbedcrypto",
        "3.6.2",
        [SHA256, b"TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256", b"Mbed TLS 3.6.2"],
    ),
    ("wolfssl", "libwolfssl", None, [SHA256, b"AES-GCM Authentication check fail", b"mp_init error state"]),
    ("nss", "libnss3", "3.87.1", [SHA256, b"Version: NSS 3.87.1 Basic ECC"]),
    (
        "libsodium",
        "libsodium",
        None,
        [b"_unprotected_ptr_from_user_ptr(user_ptr) == unprotected_ptr", b"../libsodium/sodium/utils.c"],
    ),
    ("botan", "libbotan", None, [SHA256, b"N5Botan9ExceptionE", b"N5Botan7SHA_256E"]),
    (
        "cryptopp",
        "libcryptopp",
        None,
        [SHA256, b"N8CryptoPP9AlgorithmE", b"N8CryptoPP22BufferedTransformationE"],
    ),
    ("ring", "ring", "0.17.8", [IN_FOURS, b"/index.crates.io-6f17d22bba15001f/ring-0.17.8/src/aead.rs"]),
]
# What these add is the version, and no mark.
VERSIONS = {b"3.0.22", b"Enabled GnuTLS 3.7.9 logging...", b"Mbed TLS 3.6.2"}


def marks_of(family: str) -> list[bytes]:
    """The first such file's."""
    return next(constants for name, _, _, constants in TRACES if name == family)


def searched(data: bytes, bytes_max: int = 1 << 30) -> Search:
    """The answer about bytes in memory."""
    elf = read_elf(lambda offset, length: data[offset : offset + length])
    assert elf is not None
    return search_embedded(elf, bytes_max)


def holding(
    *constants: bytes, needed: tuple[str, ...] = ("libc.so.6",), code_bytes: int = CODE_BYTES
) -> bytes:
    """A program with these among its constants."""
    text = b"\0some text\0" + b"\0".join(constants) + b"\0more\0"
    return elf_file(constants=text, needed=needed, code_bytes=code_bytes)


@pytest.mark.parametrize(("family", "name", "version", "constants"), TRACES)
def test_all_marks_of_a_library_tell_it(
    family: str, name: str, version: str | None, constants: list[bytes]
) -> None:
    """In any order, whoever linked it."""
    for order in (constants, constants[::-1]):
        assert searched(holding(*order)).found == (family, name, version)


@pytest.mark.parametrize(("family", "name", "version", "constants"), TRACES)
def test_any_mark_of_a_library_missing_tells_nothing(
    family: str, name: str, version: str | None, constants: list[bytes]
) -> None:
    """One mark alone may stand in a user of the library, in a list of object identifiers, in a test."""
    for missing in set(constants) - VERSIONS:
        found = searched(holding(*(one for one in constants if one != missing))).found

        # AWS-LC without its name is the project that it left.
        assert found is None or (family, found.family) == ("aws-lc", "boringssl")


@pytest.mark.parametrize(
    "words",
    [
        [DATED],
        [b"OpenSSL 3.0.20 7 Apr 2026", b"built with OpenSSL", b"nginx version: nginx/1.22.1"],
        [OBJECTS],
        [OBJECTS, b"OpenSSL 3.0"],
        [OBJECTS, b"running with OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)"],
        [SHA256, b"OpenSSL 3.0.19 27 Jan 2026", b"LibreSSL 3.8.2", b"BoringSSL", b"AWS-LC 1.2.3"],
        [SHA256, b"libsodium", b"wolfSSL 5.5.4", b"Mbed TLS 3.6.2", b"Botan 2.19.3 ("],
    ],
)
def test_words_of_a_user_tell_nothing(words: list[bytes]) -> None:
    """ssh, curl and nginx print and compare versions of libraries that they do not hold."""
    assert searched(holding(*words)).found is None


@pytest.mark.parametrize(
    ("needed", "constants"),
    [
        ("libcrypto.so.3", [OBJECTS, DATED]),
        ("libssl-8bd944e8.so.3", [OBJECTS, DATED]),
        ("libgnutls.so.30", marks_of("gnutls")),
        ("libgcrypt.so.20", marks_of("libgcrypt")),
        ("libmbedcrypto.so.7", marks_of("mbedtls")),
        ("libwolfssl.so.35", marks_of("wolfssl")),
        ("libnss3.so", marks_of("nss")),
        ("libsodium.so.23", marks_of("libsodium")),
        ("libbotan-2.so.19", marks_of("botan")),
        ("libcrypto++.so.8", marks_of("cryptopp")),
    ],
)
def test_a_file_linked_with_a_library_is_not_said_to_hold_it(needed: str, constants: list[bytes]) -> None:
    """The library stands outside, and is found there; a wheel's own copy has a longer SONAME."""
    assert searched(holding(*constants)).found is not None
    assert searched(holding(*constants, needed=(needed, "libc.so.6"))).found is None


def test_a_file_linked_with_one_library_may_hold_another() -> None:
    """A program of the distribution's GnuTLS with somebody's libsodium in it."""
    data = holding(*marks_of("libsodium"), *marks_of("gnutls"), needed=("libgnutls.so.30",))

    assert searched(data).found == ("libsodium", "libsodium", None)


@pytest.mark.parametrize(
    ("others", "family"),
    [
        # What talks to Amazon's services knows the name of their library.
        ([DATED, b"AWS-LC 1.2.3", b"crypto/fipsmodule/"], "openssl"),
        ([b"OpenSSL Default Provider", b"BoringSSL"], "openssl"),
        ([b"crypto/fipsmodule", b"AWS-LC"], "aws-lc"),
        ([DATED, *marks_of("gnutls")], "openssl"),
    ],
)
def test_the_first_of_several_is_told(others: list[bytes], family: str) -> None:
    """One file gives one answer, and always the same."""
    found = searched(holding(OBJECTS, *others)).found

    assert found is not None
    assert found.family == family


def test_of_two_lone_versions_neither_is_the_librarys() -> None:
    """The program may state its own in the same form; a version that is guessed would be judged."""
    data = holding(OBJECTS, b"OpenSSL Default Provider", b"3.0.22", b"x", b"2.7.1")

    assert searched(data).found == ("openssl", "libcrypto", None)


@pytest.mark.parametrize("is_big", [True, False])
def test_tables_are_in_the_files_own_byte_order(is_big: bool) -> None:
    """s390x is big-endian."""
    table = struct.pack(">16I" if is_big else "<16I", *ROUND_CONSTANTS)
    text = b"\0TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256\0" + table
    found = searched(elf_file(constants=text, code_bytes=CODE_BYTES, is_big=is_big)).found
    other = searched(elf_file(constants=text, code_bytes=CODE_BYTES, is_big=not is_big)).found

    assert found == ("mbedtls", "libmbedcrypto", None)
    assert other is None


def test_constants_among_the_code_are_searched() -> None:
    """Linkers before `-z separate-code` put them there, as those of wheels' build hosts do."""
    text = b"\0".join((b"", OBJECTS, DATED, b""))

    assert searched(elf_file(constants=text + bytes(CODE_BYTES), is_mixed=True)).found is not None


def test_a_file_with_too_little_code_is_not_read() -> None:
    """No library fits into it; so are four in five files of a host, and data in the form of a library."""
    search = searched(holding(OBJECTS, DATED, bytes(1 << 20), code_bytes=50_000))

    assert search == (None, 0, False)


@pytest.mark.parametrize("shift", range(0, 80, 5))
def test_marks_across_the_edge_of_what_is_read_at_once_are_found(shift: int) -> None:
    """A mebibyte is read at a time."""
    for constants in ([OBJECTS, DATED], [DATED, OBJECTS]):
        text = bytes((1 << 20) - shift - 700) + b"\0".join((b"", *constants, b"")) + bytes(1 << 20)

        found = searched(elf_file(constants=text, code_bytes=CODE_BYTES)).found

        assert found == ("openssl", "libcrypto", "3.5.7")


def test_marks_far_from_one_another_are_found_in_any_order() -> None:
    """The search goes on where the first mark was, and then from the beginning to there."""
    gap = bytes(3 << 20)
    for constants in ([OBJECTS, DATED], [DATED, OBJECTS]):
        found = searched(holding(gap.join(constants), gap)).found

        assert found == ("openssl", "libcrypto", "3.5.7")


def test_a_search_that_is_cut_short_says_so() -> None:
    """Silence is not health: what was not searched may hold anything."""
    data = holding(bytes(3 << 20), OBJECTS, DATED)

    assert searched(data, 1 << 20) == (None, 1 << 20, True)
    assert searched(data, 0) == (None, 0, True)
    whole = searched(data)
    assert whole.found is not None
    assert not whole.is_cut
    assert whole.searched_bytes > 3 << 20


# -- Go ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (b"crypto/tls.(*Conn).clientHandshake", "crypto/tls"),
        (b"crypto/rsa.(*PrivateKey).Sign\0crypto/tls.(*Conn).clientHandshake", "crypto/tls"),
        (b"crypto/ecdsa.(*PrivateKey).Sign", "crypto"),
        (b"golang.org/x/crypto/ssh.NewClientConn", "crypto"),
        (b"crypto/sha256.(*digest).Write", None),
        (OBJECTS + b"\0" + DATED, None),
    ],
)
def test_go_programs_are_known_by_their_functions(names: bytes, name: str | None) -> None:
    """Go has its own TLS, links nothing, and keeps the table of functions when all else is stripped."""
    data = elf_file(constants=b"\0" + names + b"\0", code_bytes=CODE_BYTES, variables=GO_VERSION, is_go=True)

    assert searched(data).found == (None if name is None else ("go", name, "1.24.3"))


def test_a_go_program_without_a_version_has_none() -> None:
    """Before Go 1.18 it stood behind pointers; it may also be wiped."""
    names = b"\0crypto/tls.(*Conn).clientHandshake\0"
    old = b"\xff Go buildinf:\x08\x00" + bytes(32)
    for variables in (old, b"", GO_VERSION.replace(b"\x02", b"\x00")):
        data = elf_file(constants=names, code_bytes=CODE_BYTES, variables=variables, is_go=True)

        assert searched(data).found == ("go", "crypto/tls", None)


def test_gos_functions_in_a_c_program_tell_nothing() -> None:
    """A debugger or a rule set may name them."""
    assert searched(holding(b"crypto/tls.(*Conn).clientHandshake")).found is None


# -- what others built ---------------------------------------------------------------------------------------


def test_the_openssl_inside_pythons_cryptography_is_the_one_that_it_says() -> None:
    """Against the module itself, which was linked with a static OpenSSL by its makers."""
    path = Path(str(_rust.__file__))
    said = re.match(r"OpenSSL (\S+)", _rust.openssl.openssl_version_text())
    if said is None:
        pytest.skip(f"{path} was not built with OpenSSL")
    with path.open("rb") as file:
        elf = read_elf(read_at_of(file.fileno(), str(path)))
        assert elf is not None
        if any(name.startswith(b"libcrypto") for name in elf.needed):
            pytest.skip(f"{path} is linked with the system's OpenSSL")

        library = examine(file.fileno(), str(path)).library

    assert library is not None
    assert (library.family, library.name, library.version, library.embedded) == (
        "openssl",
        "libcrypto",
        said[1],
        True,
    )


_CALLER = """
#include <openssl/ssl.h>
#include <stdio.h>
int main(void) { puts(SSL_CTX_new(TLS_method()) ? OPENSSL_VERSION_STR : "none"); return 0; }
"""


@pytest.mark.parametrize("link", [["-static"], ["-Wl,-Bstatic"], ["-Wl,--gc-sections"]], ids=" ".join)
def test_a_program_linked_statically_with_openssl_is_told_with_its_version(
    link: list[str], tmp_path: Path
) -> None:
    """Against a compiler, and the program's own word; stripped of every symbol, as they are shipped."""
    archive = LIBRARIES / "libcrypto.a"
    if not archive.exists() or shutil.which("gcc") is None:
        pytest.skip(f"there is no gcc or no {archive} here")
    source, program = tmp_path / "x.c", tmp_path / "program"
    source.write_text(_CALLER)
    libraries = ["-lssl", "-lcrypto"] if link != ["-Wl,--gc-sections"] else [LIBRARIES / "libssl.a", archive]
    built = ["gcc", str(source), "-o", str(program), "-s", *link, *map(str, libraries)]
    built += ["-Wl,-Bdynamic"] if link == ["-Wl,-Bstatic"] else []
    subprocess.run(built, check=True, capture_output=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()

    found = searched(program.read_bytes()).found

    assert found == ("openssl", "libcrypto", said)


def test_a_program_linked_with_the_systems_openssl_holds_none(tmp_path: Path) -> None:
    """The same program, linked as distributions link."""
    if not (LIBRARIES / "libcrypto.so").exists() or shutil.which("gcc") is None:
        pytest.skip("there is no gcc or no OpenSSL to link with here")
    source, program = tmp_path / "x.c", tmp_path / "program"
    source.write_text(_CALLER)
    subprocess.run(["gcc", str(source), "-o", str(program), "-lssl", "-lcrypto"], check=True)

    with program.open("rb") as file:
        assert examine(file.fileno(), str(program)).library is None


def test_no_file_of_this_host_is_told_to_hold_what_it_is_linked_with() -> None:
    """Against readelf: hundreds of programs use OpenSSL and GnuTLS here, and many print their versions."""
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf here")
    paths = list(map(str, elf_files(LIBRARIES, *PROGRAMS)))
    said = subprocess.run(
        ["readelf", "--wide", "--dynamic", "--", *paths], capture_output=True, text=True, check=True
    ).stdout
    users = [
        page.split("\n", 1)[0]
        for page in f"\n{said}".split("\nFile: ")[1:]
        if re.search(r"\(NEEDED\).*\[lib(?:crypto|ssl|gnutls|gcrypt|nettle|nss3|sodium)[-.]", page)
    ]
    if not users:
        pytest.skip("no program of this host uses a cryptographic library")

    told = {}
    for path in users:
        with open(path, "rb") as file:
            library = examine(file.fileno(), path).library
        if library is not None and library.embedded:
            told[path] = library

    assert told == {}
