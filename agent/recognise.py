# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is an ELF file? Told by its SONAME and what it exports, never by its path.

A SONAME is what programs were linked against, so it stays when a file is renamed or copied. A file whose
SONAME is not in the table, or that has none (plug-ins), is known by what it exports. The version is what its
own bytes state in so many words; where they state none, it is absent.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

from agent import errors
from agent.elf import Elf, MalformedElfError, Symbol, read_at_of, read_elf
from agent.model import canonical

# How much of one library is searched for its version. The largest of the table have under 6 MiB in all
# (OpenSSL's libcrypto, Botan); the rest is for builds that carry several.
SEARCH_BYTES_MAX = 16 * 1024 * 1024
# How often a library may say the words without a version after them: OpenSSL says its name 41 times.
_TRIES_MAX = 1000

# `libcrypto.so.3`, and `libcrypto-3a1b2c4d.so.3` as auditwheel renames what a Python wheel bundles.
_SONAME = re.compile(rb"(?P<stem>[^/]+?)(?:-[0-9a-f]{8,})?\.so(?:\.(?P<major>[0-9]{1,9})[^/]*)?", re.DOTALL)
_NUMBER = rb"[0-9]{1,9}\.[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}"
# A constant that is a version and nothing else. It counts only when there is exactly one in the file.
_LONE = re.compile(rb"\0([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})(?=\0)")


@dataclass(frozen=True)
class _Statement:
    """Words in which a library states its version; some of them also tell one project from its forks."""

    anchor: bytes
    """Fixed words to look for first: finding them is ten times as fast as the pattern."""
    pattern: re.Pattern[bytes]
    """From the anchor on; group 1 is the version, empty where the words state none."""
    family: str | None = None


def _says(anchor: str, version: bytes, family: str | None = None) -> _Statement:
    return _Statement(anchor.encode(), re.compile(re.escape(anchor.encode()) + version), family)


@dataclass(frozen=True, kw_only=True)
class _Row:
    family: str
    name: str
    stems: tuple[str, ...] = ()
    """SONAMEs up to `.so`; the name where none is given."""
    major_min: int = 0
    """The least number after `.so.`, where two projects share a stem."""
    symbols: tuple[str, ...] = ()
    """Any one of them, exported, tells the library where no SONAME does."""
    states: tuple[_Statement, ...] = ()
    """Looked for in this order; the first found counts."""
    alone: bool = False
    """The version stands in the file as a constant of its own, and there is no other of that form."""


_OPENSSL = (
    # `OpenSSL 3.0.19 27 Jan 2026`, `OpenSSL 1.0.2k-fips  26 Jan 2017`, `OpenSSL 1.1.1k  FIPS 25 Mar 2021`
    # and not the forks' `OpenSSL 1.1.1 (compatible; BoringSSL)`.
    _says(
        "OpenSSL ",
        rb"([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}[a-z]{0,2}(?:-(?!fips)[0-9a-z.]{1,20})?)[- \0](?!\(compatible)",
    ),
    _says("AWS-LC ", rb"(" + _NUMBER + rb")", "aws-lc"),
    _says("(compatible; BoringSSL)", b"()", "boringssl"),
    _says("LibreSSL ", rb"(" + _NUMBER + rb")", "libressl"),
)
_NSS = (_says("Version: NSS ", rb"(" + _NUMBER + rb")"),)
# LibreSSL counted on from OpenBSD's number (2.0 came as libssl.so.27); OpenSSL's never went beyond 10.
_LIBRESSL_MAJOR_MIN = 26

# Order matters where a file exports the marks of two rows: the first wins.
_TABLE = (
    _Row(family="libressl", name="libcrypto", major_min=_LIBRESSL_MAJOR_MIN, states=_OPENSSL[-1:]),
    _Row(family="libressl", name="libssl", major_min=_LIBRESSL_MAJOR_MIN),
    _Row(family="libressl", name="libtls", symbols=("tls_config_new",)),
    _Row(
        family="openssl",
        name="libcrypto",
        symbols=("EVP_EncryptInit_ex", "OpenSSL_version", "SSLeay_version"),
        states=_OPENSSL,
    ),
    _Row(family="openssl", name="libssl", symbols=("SSL_CTX_new",)),
    _Row(family="openssl", name="provider", symbols=("OSSL_provider_init",), alone=True),
    _Row(family="openssl", name="engine", symbols=("bind_engine",)),
    _Row(
        family="gnutls",
        name="libgnutls",
        symbols=("gnutls_global_init",),
        states=(_says("Enabled GnuTLS ", rb"([0-9][0-9A-Za-z.]{0,20}) logging"),),
    ),
    _Row(family="gnutls", name="libgnutlsxx"),
    _Row(family="gnutls", name="libgnutls-dane", symbols=("dane_state_init",)),
    _Row(family="gnutls", name="libgnutls-openssl"),
    _Row(family="nettle", name="libnettle", symbols=("nettle_sha256_init",)),
    _Row(family="nettle", name="libhogweed", symbols=("nettle_rsa_public_key_init",)),
    _Row(
        family="libgcrypt",
        name="libgcrypt",
        symbols=("gcry_check_version",),
        states=(_says("This is Libgcrypt ", rb"([0-9][0-9A-Za-z.-]{0,20}) "),),
    ),
    _Row(family="nss", name="libsoftokn3", symbols=("NSC_GetFunctionList",), states=_NSS),
    _Row(family="nss", name="libfreebl3", symbols=("FREEBL_GetVector",), states=_NSS),
    _Row(family="nss", name="libfreeblpriv3", states=_NSS),
    _Row(family="nss", name="libnss3", symbols=("NSS_Initialize",), states=_NSS),
    _Row(family="nss", name="libnssutil3", symbols=("NSSUTIL_GetVersion",), states=_NSS),
    _Row(family="nss", name="libssl3", symbols=("NSSSSL_GetVersion",), states=_NSS),
    _Row(family="nss", name="libnssckbi"),
    _Row(family="nss", name="libsmime3", symbols=("NSSSMIME_GetVersion",), states=_NSS),
    _Row(
        family="mbedtls",
        name="libmbedcrypto",
        stems=("libmbedcrypto", "libtfpsacrypto"),
        symbols=("mbedtls_version_get_string",),
        # 2.x writes `mbed TLS`, 3.x `Mbed TLS`.
        states=(_says("bed TLS ", rb"(" + _NUMBER + rb")"),),
    ),
    _Row(family="mbedtls", name="libmbedx509", symbols=("mbedtls_x509_crt_init",)),
    _Row(family="mbedtls", name="libmbedtls", symbols=("mbedtls_ssl_init",)),
    _Row(
        family="wolfssl",
        name="libwolfssl",
        symbols=("wolfSSL_Init", "wolfCrypt_Init"),
        states=(_says("wolfSSL ", rb"(" + _NUMBER + rb")\0"),),
    ),
    _Row(family="libsodium", name="libsodium", symbols=("sodium_init",), alone=True),
    _Row(
        family="botan",
        name="libbotan",
        stems=("libbotan", "libbotan-1", "libbotan-2", "libbotan-3"),
        symbols=("botan_version_string",),
        states=(_says("Botan ", rb"(" + _NUMBER + rb") \("),),
    ),
    _Row(
        family="krb5",
        name="libkrb5",
        symbols=("krb5_init_context",),
        states=(_says("KRB5_BRAND: krb5-", rb"(" + _NUMBER + rb"(?:-(?:alpha|beta)[0-9]{1,2})?)"),),
    ),
    _Row(family="krb5", name="libk5crypto", symbols=("krb5_c_encrypt",)),
    _Row(family="krb5", name="libgssapi_krb5", symbols=("gss_init_sec_context",)),
    _Row(family="heimdal", name="libkrb5", major_min=17),
    _Row(family="heimdal", name="libgssapi"),
    _Row(family="heimdal", name="libhcrypto", symbols=("hc_EVP_CipherInit_ex",)),
    _Row(family="heimdal", name="libhx509", symbols=("hx509_context_init",)),
    _Row(
        family="libssh",
        name="libssh",
        stems=("libssh", "libssh-gcrypt"),
        symbols=("ssh_new",),
        states=(_says("SSH-2.0-libssh_", rb"(" + _NUMBER + rb")"),),
    ),
    _Row(
        family="libssh2",
        name="libssh2",
        symbols=("libssh2_session_init_ex",),
        states=(_says("SSH-2.0-libssh2_", rb"(" + _NUMBER + rb")"),),
    ),
    _Row(family="p11-kit", name="libp11-kit", symbols=("p11_kit_modules_load",)),
    _Row(family="p11-kit", name="p11-kit-client"),
    _Row(family="p11-kit", name="p11-kit-proxy"),
    _Row(family="p11-kit", name="p11-kit-trust"),
    _Row(family="liboqs", name="liboqs", symbols=("OQS_KEM_new",), alone=True),
    _Row(family="s2n", name="libs2n", symbols=("s2n_init",)),
    _Row(family="rustls", name="librustls", symbols=("rustls_version",)),
    _Row(family="cryptopp", name="libcryptopp", stems=("libcrypto++", "libcryptopp")),
    _Row(
        family="libtomcrypt",
        name="libtomcrypt",
        symbols=("crypt_build_settings",),
        states=(_says("LibTomCrypt ", rb"(" + _NUMBER + rb")"),),
    ),
    # Last: modules that speak PKCS #11 and are none of the above (softhsm, opensc, a vendor's HSM).
    _Row(family="pkcs11", name="module", symbols=("C_GetFunctionList",)),
)

_BY_STEM: dict[bytes, list[_Row]] = {}
for _row in _TABLE:
    for _stem in _row.stems or (_row.name,):
        _BY_STEM.setdefault(_stem.encode(), []).append(_row)
for _rows in _BY_STEM.values():
    _rows.sort(key=lambda row: -row.major_min)
_MARKS = {Symbol.of(symbol): row for row in _TABLE for symbol in row.symbols}


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A cryptographic library, as its bytes tell it. Names that are not UTF-8 carry the reversible escape."""

    family: str
    name: str
    soname: str | None
    version: str | None
    build_id: str | None
    embedded: bool = False
    """Linked into a program or module of another name."""
    searched_bytes: int = 0
    """How much of it was read to find the version."""


def recognise(elf: Elf, search_bytes_max: int = SEARCH_BYTES_MAX) -> Recognised | None:
    """The library that a file is, or None where it is none of the table.

    Args:
        elf: the file.
        search_bytes_max: how much of it may be read in search of its version.

    Raises:
        MalformedElfError: the file contradicts itself.
        HostError: it cannot be read.
    """
    soname = elf.soname
    match = _SONAME.fullmatch(soname) if soname else None
    row = _row_by_soname(match) if match else None
    if row is not None:
        name = row.name
    else:
        row = _row_by_marks(elf)
        if row is None:
            return None
        # Known by its symbols alone: where it has a name of its own, that says more than the table's.
        name = canonical.escape_bytes(match["stem"]) if match else row.name
    found = Recognised(
        family=row.family,
        name=name,
        soname=canonical.escape_bytes(soname) if soname else None,
        version=None,
        build_id=elf.build_id,
    )
    if row.states:
        return _with_stated_version(found, row.states, elf, search_bytes_max)
    return _with_lone_version(found, elf, search_bytes_max) if row.alone else found


def recognise_file(fd: int, path: str, search_bytes_max: int = SEARCH_BYTES_MAX) -> Recognised | None:
    """The same for an open file, in the form of `agent.parsing`.

    Raises:
        MalformedError: the file contradicts itself.
        HostError: it cannot be read.
    """
    try:
        elf = read_elf(read_at_of(fd, path))
        return None if elf is None else recognise(elf, search_bytes_max)
    except MalformedElfError as error:
        raise errors.MalformedError(path, str(error)) from error


def _row_by_soname(match: re.Match[bytes]) -> _Row | None:
    major = int(match["major"] or 0)
    return next((row for row in _BY_STEM.get(match["stem"], ()) if major >= row.major_min), None)


def _row_by_marks(elf: Elf) -> _Row | None:
    # A program that exports its crypto has it linked in: that is another question than which library this is.
    if elf.has_interpreter:
        return None
    mark = elf.first_export(_MARKS)
    return _MARKS[mark] if mark else None


def _with_stated_version(
    found: Recognised, states: tuple[_Statement, ...], elf: Elf, bytes_max: int
) -> Recognised:
    searched = 0
    for chunk in elf.contents(min(bytes_max, SEARCH_BYTES_MAX)):
        searched += len(chunk)
        for statement in states:
            version = _version(statement, chunk)
            if version is not None:
                return replace(
                    found,
                    family=statement.family or found.family,
                    version=version.decode("ascii") or None,
                    searched_bytes=searched,
                )
    return replace(found, searched_bytes=searched)


def _version(statement: _Statement, chunk: bytes) -> bytes | None:
    at = -1
    for _ in range(_TRIES_MAX):
        at = chunk.find(statement.anchor, at + 1)
        if at < 0:
            return None
        match = statement.pattern.match(chunk, at)
        if match is not None:
            return match[1]
    return None


def _with_lone_version(found: Recognised, elf: Elf, bytes_max: int) -> Recognised:
    searched = 0
    lone: set[bytes] = set()
    for chunk in elf.contents(min(bytes_max, SEARCH_BYTES_MAX)):
        searched += len(chunk)
        lone.update(match[1] for match in itertools.islice(_LONE.finditer(chunk), _TRIES_MAX))
        if len(lone) > 1:
            return replace(found, searched_bytes=searched)
    return replace(found, version=lone.pop().decode("ascii") if lone else None, searched_bytes=searched)
