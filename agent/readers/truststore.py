# SPDX-License-Identifier: Apache-2.0
"""What is a trust store, and how does it differ from what the distribution ships?

Two ways of distributions are known. Debian's (Ubuntu, Alpine): a directory of certificate files, one bundle
made of them by update-ca-certificates(8). Fedora's (RHEL, SUSE, Arch): sources in p11-kit's format with what
each root may be trusted for, bundles by purpose made of them by update-ca-trust(8).

Source: those manual pages; p11-kit's trust module (persist format of `trust/persist.c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from agent.model.asset import Certificate, TrustStore
from agent.readers import der, pem
from agent.readers.spki import parse_public_key
from agent.readers.x509 import MalformedCertificateError, parse_certificate

# No chain that a server sends has ten certificates; the smallest bundles of public roots in use have more
# than 40.
MEMBERS_MIN = 20

_SERVER = "1.3.6.1.5.5.7.3.1"
_EMAIL = "1.3.6.1.5.5.7.3.4"
_CODE = "1.3.6.1.5.5.7.3.3"
_EXTENDED_KEY_USAGE = "2.5.29.37"
_ANY_PURPOSE = "2.5.29.37.0"
_PURPOSE_NAMES = {_SERVER: "serverAuth", _EMAIL: "emailProtection", _CODE: "codeSigning"}


@dataclass(frozen=True)
class Bundle:
    """A bundle that a distribution's tool writes, and what it writes it from."""

    path: str
    """Real path of the bundle."""
    sources: tuple[str, ...]
    """Directories of certificate files, or files in p11-kit's format (these end in `.p11-kit`)."""
    purpose: str | None = None
    """OID of the purpose that a root must be trusted for; None for every certificate in the source."""


_P11_KIT = (
    "/usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit",  # Fedora, RHEL
    "/usr/share/pki/trust/ca-certificates-mozilla.trust.p11-kit",  # SUSE
)
_EXTRACTED = "/etc/pki/ca-trust/extracted"
BUNDLES = {
    bundle.path: bundle
    for bundle in (
        Bundle("/etc/ssl/certs/ca-certificates.crt", ("/usr/share/ca-certificates",)),
        Bundle(f"{_EXTRACTED}/pem/tls-ca-bundle.pem", _P11_KIT, _SERVER),
        Bundle(f"{_EXTRACTED}/pem/email-ca-bundle.pem", _P11_KIT, _EMAIL),
        Bundle(f"{_EXTRACTED}/pem/objsign-ca-bundle.pem", _P11_KIT, _CODE),
        Bundle(f"{_EXTRACTED}/openssl/ca-bundle.trust.crt", _P11_KIT),
        Bundle("/var/lib/ca-certificates/ca-bundle.pem", _P11_KIT, _SERVER),
    )
}


def is_anchor(certificate: Certificate) -> bool:
    """Whether it can be a root: it says so, or is of version 1, which has no extensions to say it with."""
    return certificate.is_ca or (certificate.version == 1 and certificate.self_issued)


def is_store(path: str, certificates: Iterable[Certificate]) -> bool:
    """Whether a file of certificates is a trust store: a known bundle, or MEMBERS_MIN roots in one file."""
    return path in BUNDLES or sum(map(is_anchor, certificates)) >= MEMBERS_MIN


def trust_store(
    members: Iterable[str], reference: str | None = None, shipped: frozenset[str] | None = None
) -> TrustStore:
    """The asset.

    Args:
        members: SHA-256 of every certificate in the file.
        reference: what it is compared with; None where it is compared with nothing.
        shipped: SHA-256 of every certificate that the reference would put into it.
    """
    held = frozenset(members)
    return TrustStore(
        format="pem-bundle",
        members=tuple(sorted(held)),
        reference=reference,
        added=tuple(sorted(held - shipped)) if shipped is not None else (),
        removed=tuple(sorted(shipped - held)) if shipped is not None else (),
    )


# -- p11-kit -------------------------------------------------------------------------------------------------

_OBJECT = b"[p11-kit-object-v1]"
_ATTRIBUTE = re.compile(rb"^([a-z0-9-]+):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)
_LABELS = ("CERTIFICATE", "TRUSTED CERTIFICATE", "PUBLIC KEY")


def shipped_by_p11_kit(page: bytes, purpose: str | None) -> frozenset[str]:
    """SHA-256 of the certificates that update-ca-trust puts into the bundle for a purpose.

    They are those that the source trusts, does not distrust, and does not keep for other purposes: by an
    extended key usage in the certificate or, before that, in an object of its own that names the
    certificate's key.

    Args:
        page: a file in p11-kit's format.
        purpose: OID; None for every certificate of the source, the distrusted too.
    """
    certificates: dict[str, Certificate] = {}
    trusted: set[str] = set()
    distrusted: set[str] = set()
    stapled: dict[str, frozenset[str]] = {}
    for section in page.split(_OBJECT)[1:]:
        head, marker, _ = section.partition(b"-----BEGIN")
        attributes = dict(_ATTRIBUTE.findall(head))
        for block in pem.blocks(section[len(head) :], _LABELS) if marker else ():
            if block.data is None:
                continue
            if block.label == "PUBLIC KEY":
                stapled |= _stapled(attributes, block.data)
                continue
            try:
                certificate = parse_certificate(block.data)
            except MalformedCertificateError:
                continue
            certificates[certificate.sha256] = certificate
            if attributes.get(b"trusted") == b"true":
                trusted.add(certificate.sha256)
            if attributes.get(b"x-distrusted") == b"true":
                distrusted.add(certificate.sha256)
    if purpose is None:
        return frozenset(certificates)
    return frozenset(
        sha256 for sha256 in trusted - distrusted if _is_for(certificates[sha256], stapled, purpose)
    )


def _is_for(certificate: Certificate, stapled: Mapping[str, frozenset[str]], purpose: str) -> bool:
    purposes = stapled.get(certificate.key.spki_sha256)
    if purposes is not None:
        return bool(purposes & {purpose, _ANY_PURPOSE})
    names = certificate.extended_key_usage
    return not names or _PURPOSE_NAMES[purpose] in names or "anyExtendedKeyUsage" in names


def _stapled(attributes: Mapping[bytes, bytes], key: bytes) -> dict[str, frozenset[str]]:
    """Purposes that an extension object gives to the certificates of a key: {SHA-256 of the key: OIDs}."""
    if attributes.get(b"object-id", b"").decode("latin-1") != _EXTENDED_KEY_USAGE:
        return {}
    try:
        # The value is a whole Extension (RFC 5280 section 4.1): OID, perhaps `critical`, and the encoding in
        # a string.
        extension = der.read(unquote_to_bytes(attributes.get(b"value", b"").strip(b'"')))
        purposes = der.read(extension.children()[-1].value).children()
        return {parse_public_key(key).spki_sha256: frozenset(map(der.oid, purposes))}
    except (der.MalformedDerError, IndexError):
        return {}
