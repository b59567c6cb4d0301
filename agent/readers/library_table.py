# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic libraries are there, and what tells each from all others? Data: one row per library.

A SONAME is what programs were linked against, so it stays when a file is renamed or copied: it comes first.
Where no SONAME tells, exported symbols do. Each row was held against the library itself, as Debian 12 or a
wheel ships it; liboqs, librustls, LibreSSL and OpenSSL's forks as libraries of their own are rows by their
projects' sources.

Left out on purpose: what only hashes or checks passwords (libcrypt, libargon2, librhash, libmd, libb2),
because nobody's data or traffic is protected by it and every login maps it; what only calls one of these
(libcurl, libgpgme, libxmlsec1, libcjose, libcryptsetup).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agent.readers.elf_symbols import Symbol

NUMBER = rb"[0-9]{1,9}\.[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}"
# `libcrypto.so.3`, and `libcrypto-3a1b2c4d.so.3` as auditwheel renames what a Python wheel bundles.
SONAME = re.compile(rb"(?P<stem>[^/]+?)(?:-[0-9a-f]{8,})?\.so(?:\.(?P<major>[0-9]{1,9})[^/]*)?", re.DOTALL)


def stems(sonames: Iterable[bytes]) -> frozenset[bytes]:
    """The SONAMEs up to `.so`, of those that are SONAMEs."""
    return frozenset(match["stem"] for soname in sonames if (match := SONAME.fullmatch(soname)))


class Statement(NamedTuple):
    """Words in which a library states its version; some of them also tell one project from its forks."""

    anchor: bytes
    """Fixed words to look for first: finding them is ten times as fast as the pattern."""
    pattern: re.Pattern[bytes]
    """From the anchor on; group 1 is the version, empty where the words state none."""
    family: str | None = None


def says(anchor: str, version: bytes, family: str | None = None) -> Statement:
    """The anchor, and the pattern of what follows it."""
    return Statement(anchor.encode(), re.compile(re.escape(anchor.encode()) + version), family)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One library."""

    family: str
    name: str
    stems: tuple[str, ...] = ()
    """SONAMEs up to `.so`; the name where none is given."""
    major_min: int = 0
    """The least number after `.so.`, where two projects share a stem."""
    needs: tuple[bytes, ...] = ()
    """It is this one only if it is linked with one of these, where two projects share a SONAME."""
    symbols: tuple[str, ...] = ()
    """Any one of them, exported, tells the library where no SONAME does."""
    is_fork: bool = False
    """It shares its stem with the project it left, has no number there, and exports what that never had."""
    states: tuple[Statement, ...] = ()
    """Looked for in this order; the first found counts."""
    alone: bool = False
    """The version stands in the file as a constant of its own, and there is no other of that form."""
    is_module: bool = False
    """Loaded by name into another library: such a file is this thing, whatever it is called."""
    embedded: bool = False
    """The file has another purpose, and this cryptography in it."""

    @property
    def all_stems(self) -> frozenset[bytes]:
        """Every stem of its SONAMEs."""
        return frozenset(stem.encode() for stem in self.stems or (self.name,))


OPENSSL_STATES = (
    # `OpenSSL 3.0.19 27 Jan 2026`, `OpenSSL 1.0.2k-fips  26 Jan 2017`, `OpenSSL 1.1.1k  FIPS 25 Mar 2021`
    # and not the forks' `OpenSSL 1.1.1 (compatible; BoringSSL)`.
    says(
        "OpenSSL ",
        rb"([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}[a-z]{0,2}(?:-(?!fips)[0-9a-z.]{1,20})?)[- \0](?!\(compatible)",
    ),
    # What AWS-LC's OpenSSL_version(3) says is `AWS-LC 1.29.0` since 2024, and stood in brackets before.
    says("AWS-LC ", rb"(?:FIPS )?(" + NUMBER + rb")", "aws-lc"),
    says("(compatible; BoringSSL)", b"()", "boringssl"),
    # crypto/crypto.cc since 2021: the whole of what OpenSSL_version(3) says.
    says("BoringSSL\0", b"()", "boringssl"),
    says("LibreSSL ", rb"(" + NUMBER + rb")", "libressl"),
)
GNUTLS_STATES = (says("Enabled GnuTLS ", rb"([0-9][0-9A-Za-z.]{0,20}) logging"),)
LIBGCRYPT_STATES = (says("This is Libgcrypt ", rb"([0-9][0-9A-Za-z.-]{0,20}) "),)
# 2.x writes `mbed TLS`, 3.x `Mbed TLS`.
MBEDTLS_STATES = (says("bed TLS ", rb"(" + NUMBER + rb")"),)
WOLFSSL_STATES = (says("wolfSSL ", rb"(" + NUMBER + rb")\0"),)
BOTAN_STATES = (says("Botan ", rb"(" + NUMBER + rb") \("),)
NSS_STATES = (says("Version: NSS ", rb"(" + NUMBER + rb")"),)
LIBTOMCRYPT_STATES = (says("LibTomCrypt ", rb"(" + NUMBER + rb")"),)
# LibreSSL counted on from OpenBSD's number (2.0 came as libssl.so.27); OpenSSL's never went beyond 10.
_LIBRESSL_MAJOR_MIN = 26

# Order matters where a file fits two rows: the first wins.
TABLE = (
    Row(family="libressl", name="libcrypto", major_min=_LIBRESSL_MAJOR_MIN, states=OPENSSL_STATES[-1:]),
    Row(family="libressl", name="libssl", major_min=_LIBRESSL_MAJOR_MIN),
    # LibreSSL's libtls made to run on OpenSSL, under LibreSSL's SONAME.
    Row(
        family="libretls",
        name="libtls",
        needs=(b"libssl.so.1.1", b"libssl.so.3", b"libssl.so.4"),
        symbols=("tls_config_new",),
    ),
    Row(family="libressl", name="libtls", symbols=("tls_config_new",)),
    Row(
        family="aws-lc",
        name="libcrypto",
        stems=("libcrypto", "libcrypto-awslc"),
        symbols=("awslc_version_string", "awslc_api_version_num"),
        states=OPENSSL_STATES[1:2],
        is_fork=True,
    ),
    Row(
        family="aws-lc",
        name="libssl",
        stems=("libssl", "libssl-awslc"),
        symbols=("SSL_to_bytes",),
        is_fork=True,
    ),
    Row(family="boringssl", name="libcrypto", symbols=("BORINGSSL_self_test",), is_fork=True),
    Row(family="boringssl", name="libssl", symbols=("SSL_CTX_set_grease_enabled",), is_fork=True),
    Row(
        family="openssl",
        name="libcrypto",
        symbols=("EVP_EncryptInit_ex", "OpenSSL_version", "SSLeay_version"),
        states=OPENSSL_STATES,
    ),
    Row(family="openssl", name="libssl", symbols=("SSL_CTX_new",)),
    Row(family="openssl", name="provider", symbols=("OSSL_provider_init",), alone=True, is_module=True),
    Row(family="openssl", name="engine", symbols=("bind_engine",), is_module=True),
    Row(family="gnutls", name="libgnutls", symbols=("gnutls_global_init",), states=GNUTLS_STATES),
    Row(family="gnutls", name="libgnutlsxx"),
    Row(family="gnutls", name="libgnutls-dane", symbols=("dane_state_init",)),
    Row(family="gnutls", name="libgnutls-openssl"),
    Row(family="nettle", name="libnettle", symbols=("nettle_sha256_init",)),
    Row(family="nettle", name="libhogweed", symbols=("nettle_rsa_public_key_init",)),
    Row(family="libgcrypt", name="libgcrypt", symbols=("gcry_check_version",), states=LIBGCRYPT_STATES),
    Row(family="nss", name="libsoftokn3", symbols=("NSC_GetFunctionList",), states=NSS_STATES),
    Row(family="nss", name="libfreebl3", symbols=("FREEBL_GetVector",), states=NSS_STATES),
    Row(family="nss", name="libfreeblpriv3", states=NSS_STATES),
    Row(family="nss", name="libnss3", symbols=("NSS_Initialize",), states=NSS_STATES),
    Row(family="nss", name="libnssutil3", symbols=("NSSUTIL_GetVersion",), states=NSS_STATES),
    Row(family="nss", name="libssl3", symbols=("NSSSSL_GetVersion",), states=NSS_STATES),
    Row(family="nss", name="libnssckbi"),
    Row(family="nss", name="libnssdbm3"),
    Row(family="nss", name="libsmime3", symbols=("NSSSMIME_GetVersion",), states=NSS_STATES),
    Row(
        family="mbedtls",
        name="libmbedcrypto",
        stems=("libmbedcrypto", "libtfpsacrypto"),
        symbols=("mbedtls_version_get_string",),
        states=MBEDTLS_STATES,
    ),
    Row(family="mbedtls", name="libmbedx509", symbols=("mbedtls_x509_crt_init",)),
    Row(family="mbedtls", name="libmbedtls", symbols=("mbedtls_ssl_init",)),
    Row(
        family="wolfssl", name="libwolfssl", symbols=("wolfSSL_Init", "wolfCrypt_Init"), states=WOLFSSL_STATES
    ),
    Row(family="libsodium", name="libsodium", symbols=("sodium_init",), alone=True),
    Row(
        family="botan",
        name="libbotan",
        stems=("libbotan", "libbotan-1", "libbotan-2", "libbotan-3"),
        symbols=("botan_version_string",),
        states=BOTAN_STATES,
    ),
    # Crypto++ exports C++ names: this is CryptoPP::Integer::Zero().
    Row(
        family="cryptopp",
        name="libcryptopp",
        stems=("libcrypto++", "libcryptopp"),
        symbols=("_ZN8CryptoPP7Integer4ZeroEv",),
    ),
    Row(
        family="krb5",
        name="libkrb5",
        symbols=("krb5_init_context",),
        states=(says("KRB5_BRAND: krb5-", rb"(" + NUMBER + rb"(?:-(?:alpha|beta)[0-9]{1,2})?)"),),
    ),
    Row(family="krb5", name="libk5crypto", symbols=("krb5_c_encrypt",)),
    # All of these export what libgssapi_krb5 does.
    Row(family="gssglue", name="libgssglue"),
    Row(family="gss", name="libgss"),
    Row(family="heimdal", name="libkrb5", major_min=17),
    Row(family="heimdal", name="libgssapi"),
    Row(family="heimdal", name="libhcrypto", symbols=("hc_EVP_CipherInit_ex",)),
    Row(family="heimdal", name="libhx509", symbols=("hx509_context_init",)),
    Row(family="krb5", name="libgssapi_krb5", symbols=("gss_init_sec_context",)),
    Row(
        family="libssh",
        name="libssh",
        stems=("libssh", "libssh-gcrypt"),
        symbols=("ssh_new",),
        states=(says("SSH-2.0-libssh_", rb"(" + NUMBER + rb")"),),
    ),
    Row(
        family="libssh2",
        name="libssh2",
        symbols=("libssh2_session_init_ex",),
        states=(says("SSH-2.0-libssh2_", rb"(" + NUMBER + rb")"),),
    ),
    Row(family="p11-kit", name="libp11-kit", symbols=("p11_kit_modules_load",)),
    Row(family="p11-kit", name="p11-kit-client", is_module=True),
    Row(family="p11-kit", name="p11-kit-proxy", is_module=True),
    Row(family="p11-kit", name="p11-kit-trust", is_module=True),
    Row(family="liboqs", name="liboqs", symbols=("OQS_KEM_new",), alone=True),
    Row(family="s2n", name="libs2n", symbols=("s2n_init",)),
    Row(family="rustls", name="librustls", symbols=("rustls_version",)),
    Row(
        family="libtomcrypt",
        name="libtomcrypt",
        symbols=("crypt_build_settings",),
        states=LIBTOMCRYPT_STATES,
    ),
    Row(family="bearssl", name="libbearssl", symbols=("br_ssl_client_init_full",)),
    Row(family="libmcrypt", name="libmcrypt", symbols=("mcrypt_module_open",)),
    Row(family="libkcapi", name="libkcapi", symbols=("kcapi_cipher_init",)),
    Row(family="libsrtp", name="libsrtp2", symbols=("srtp_crypto_policy_set_rtp_default",)),
    Row(family="libsecp256k1", name="libsecp256k1", symbols=("secp256k1_context_create",)),
    Row(family="libolm", name="libolm", symbols=("olm_account",)),
    # The JDK's own providers are Java, in lib/modules, which a process maps as data; but no process runs them
    # without this library, which holds their fastest parts. `JRE (17.0.15+6-Debian-1deb12u1), built on` and
    # `JRE (1.8.0_392-b08), built on`.
    Row(
        family="jdk",
        name="libjvm",
        states=(says(" JRE (", rb"([0-9]{1,9}(?:\.[0-9]{1,9}){0,5}(?:_[0-9]{1,9})?(?:\+[0-9]{1,9})?)"),),
        embedded=True,
    ),
    # Elliptic curves of JDK 7 to 15.
    Row(family="jdk", name="libsunec"),
    # Last: modules that speak PKCS #11 and are none of the above (softhsm, opensc, a vendor's HSM).
    Row(family="pkcs11", name="module", symbols=("C_GetFunctionList",), is_module=True),
)


def _by_stem() -> dict[bytes, tuple[Row, ...]]:
    found: dict[bytes, list[Row]] = {}
    for row in TABLE:
        for stem in row.all_stems:
            found.setdefault(stem, []).append(row)
    # Stable: of two with the same number the one that asks for more stands first in the table.
    return {stem: tuple(sorted(rows, key=lambda row: -row.major_min)) for stem, rows in found.items()}


def _by_symbol() -> dict[Symbol, Row]:
    found: dict[Symbol, Row] = {}
    for row in TABLE:
        for symbol in row.symbols:
            found.setdefault(Symbol.of(symbol), row)
    return found


BY_STEM = _by_stem()
BY_SYMBOL = _by_symbol()
