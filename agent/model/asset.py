# SPDX-License-Identifier: Apache-2.0
"""What is a cryptographic thing, apart from where it stands? One Struct per kind, told apart by `kind`.

An asset is content: no path, owner, pid or time of looking enters it, so one certificate on a thousand hosts is one
asset. An absent field means "the source does not say"; it never means a default.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Hex256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 in lower-case hex.")]


class PublicKey(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A public key, known by its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""

    algorithm: Annotated[
        str,
        Meta(
            description="Family: RSA, EC, DSA, DH, Ed25519, Ed448, X25519, X448, or the OID in dotted form."
        ),
    ]
    spki_sha256: Annotated[
        Hex256, Meta(description="Identity of the key pair: SHA-256 of the DER SubjectPublicKeyInfo.")
    ]
    bits: Annotated[
        int | None, Meta(description="Size in bits: modulus for RSA, field for EC, p for DSA and DH.")
    ] = None
    curve: Annotated[
        str | None, Meta(description="Named curve as in SEC 2 or RFC 5639, for example secp256r1.")
    ] = None


class SignatureAlgorithm(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """How a certificate was signed (RFC 5280 section 4.1.1.2)."""

    oid: Annotated[str, Meta(description="AlgorithmIdentifier in dotted form.")]
    name: Annotated[
        str | None, Meta(description="The registered name, for example sha256WithRSAEncryption.")
    ] = None
    hash: Annotated[
        str | None,
        Meta(description="Hash function, for example SHA-256; absent where the scheme fixes its own."),
    ] = None


class Asset(Struct, tag_field="kind", omit_defaults=True, kw_only=True, frozen=True):
    """The base of every kind."""


class OperatingSystem(Asset, tag="operating-system", omit_defaults=True, kw_only=True, frozen=True):
    """What os-release says (freedesktop.org os-release(5))."""

    id: Annotated[str, Meta(description="ID, for example debian.")]
    name: Annotated[str | None, Meta(description="PRETTY_NAME.")] = None
    version: Annotated[str | None, Meta(description="VERSION_ID.")] = None
    codename: Annotated[str | None, Meta(description="VERSION_CODENAME.")] = None


class Kernel(Asset, tag="kernel", omit_defaults=True, kw_only=True, frozen=True):
    """The running kernel (uname(2))."""

    release: Annotated[str, Meta(description="uname -r.")]
    machine: Annotated[str, Meta(description="uname -m.")]


class FipsMode(Asset, tag="fips-mode", omit_defaults=True, kw_only=True, frozen=True):
    """Whether the kernel enforces FIPS mode (/proc/sys/crypto/fips_enabled)."""

    enabled: Annotated[
        bool,
        Meta(
            description="The kernel's own word. False also when the kernel has no such switch: see `supported`."
        ),
    ]
    supported: Annotated[bool, Meta(description="Whether the kernel has the switch at all.")]


class CryptoPolicy(Asset, tag="crypto-policy", omit_defaults=True, kw_only=True, frozen=True):
    """The system-wide crypto policy (crypto-policies(7)), as configured and as applied."""

    present: Annotated[bool, Meta(description="Whether the host has system-wide crypto policies at all.")]
    configured: Annotated[str | None, Meta(description="First word of /etc/crypto-policies/config.")] = None
    applied: Annotated[str | None, Meta(description="Content of /etc/crypto-policies/state/current.")] = None


class Library(Asset, tag="library", omit_defaults=True, kw_only=True, frozen=True):
    """A cryptographic library file, recognised by its ELF content."""

    family: Annotated[str, Meta(description="Project, for example openssl, gnutls, nss.")]
    name: Annotated[str, Meta(description="Library name without version, for example libcrypto.")]
    soname: Annotated[str | None, Meta(description="DT_SONAME.")] = None
    version: Annotated[str | None, Meta(description="The version its own bytes state.")] = None
    build_id: Annotated[
        str | None, Meta(description="NT_GNU_BUILD_ID in hex: the identity of this build.")
    ] = None
    sha256: Annotated[Hex256 | None, Meta(description="Hash of the file; only where it has no build id.")] = (
        None
    )
    embedded: Annotated[
        bool, Meta(description="Linked into a program or module of another name, not a library of its own.")
    ] = False


class LibraryUse(Asset, tag="library-use", omit_defaults=True, kw_only=True, frozen=True):
    """A crypto library that a process has mapped."""

    family: Annotated[str, Meta(description="Project, for example openssl.")]
    name: Annotated[str, Meta(description="Library name without version, for example libssl.")]
    soname: Annotated[str | None, Meta(description="DT_SONAME of the mapped file.")] = None
    version: Annotated[str | None, Meta(description="The version the mapped bytes state.")] = None
    build_id: Annotated[str | None, Meta(description="NT_GNU_BUILD_ID of the mapped file in hex.")] = None
    deleted: Annotated[bool, Meta(description="The file was replaced or removed while it stayed mapped.")] = (
        False
    )
    embedded: Annotated[
        bool, Meta(description="Linked into a program or module of another name, not a library of its own.")
    ] = False


class Certificate(Asset, tag="certificate", omit_defaults=True, kw_only=True, frozen=True):
    """An X.509 certificate (RFC 5280), known by the SHA-256 of its DER."""

    sha256: Annotated[Hex256, Meta(description="Identity: SHA-256 of the DER.")]
    subject: Annotated[
        str, Meta(description="Distinguished name in RFC 4514 form; empty when the certificate has none.")
    ]
    issuer: Annotated[str, Meta(description="Distinguished name of the issuer in RFC 4514 form.")]
    serial: Annotated[
        str, Meta(description="Serial number in lower-case hex; a leading minus where it is negative.")
    ]
    not_before: Annotated[str, Meta(description="Start of validity, UTC.")]
    not_after: Annotated[
        str, Meta(description="End of validity, UTC; the certificate is still valid at this second.")
    ]
    key: Annotated[PublicKey, Meta(description="The subject's public key.")]
    signature: Annotated[SignatureAlgorithm, Meta(description="How it was signed.")]
    is_ca: Annotated[bool, Meta(description="basicConstraints says CA.")] = False
    self_issued: Annotated[bool, Meta(description="Subject and issuer are the same name.")] = False
    version: Annotated[int, Meta(description="1 or 3.")] = 3
    names: Annotated[
        tuple[str, ...], Meta(description="subjectAltName: DNS:, IP:, URI:, email:, sorted.")
    ] = ()
    key_usage: Annotated[
        tuple[str, ...], Meta(description="keyUsage bits by their RFC 5280 names, sorted.")
    ] = ()
    extended_key_usage: Annotated[
        tuple[str, ...], Meta(description="Purposes by name, else OID, sorted.")
    ] = ()
    subject_key_id: Annotated[str | None, Meta(description="subjectKeyIdentifier in hex.")] = None
    authority_key_id: Annotated[str | None, Meta(description="authorityKeyIdentifier in hex.")] = None


class TrustStore(Asset, tag="trust-store", omit_defaults=True, kw_only=True, frozen=True):
    """A set of certificates that the host trusts, set against what its distribution package ships."""

    format: Annotated[str, Meta(description="pem-bundle.")]
    members: Annotated[tuple[str, ...], Meta(description="SHA-256 of every certificate in it, sorted.")]
    reference: Annotated[
        str | None,
        Meta(
            description="What it was compared with: the package whose own files those are, else their path."
        ),
    ] = None
    added: Annotated[
        tuple[str, ...], Meta(description="Members that the package does not ship, sorted.")
    ] = ()
    removed: Annotated[
        tuple[str, ...], Meta(description="Certificates the package ships that are not trusted here, sorted.")
    ] = ()


class FileUse(Asset, tag="file-use", omit_defaults=True, kw_only=True, frozen=True):
    """A cryptographic file that a process was seen opening."""

    access: Annotated[tuple[str, ...], Meta(description="read, write: what was asked for, sorted.")] = ()
    results: Annotated[
        tuple[str, ...], Meta(description="opened, denied, missing, failed: how the opens ended, sorted.")
    ] = ()


AnyAsset = (
    OperatingSystem
    | Kernel
    | FipsMode
    | CryptoPolicy
    | Library
    | LibraryUse
    | Certificate
    | TrustStore
    | FileUse
)
