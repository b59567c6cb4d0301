# SPDX-License-Identifier: Apache-2.0
"""Whom does the agent believe to be the collector? Who proves it to the pinned CA, and nobody else.

The system's trust store is never asked. A pin is `sha256:` and hex over the CA's SubjectPublicKeyInfo, so it
survives a renewal of the CA certificate with the same key.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Iterator
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent import errors

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python has no name for it.
_NO_CHECK_TIME = 0x200000
# X509_V_ERR_... of the same header.
_DATE_FAILURES = {9: "not yet valid", 10: "expired"}
# Signature failure, self-signed (alone or in the chain), no issuer (local or for the first), issuer's key id
# differs.
_UNTRUSTED = {7, 18, 19, 20, 21, 30}


class ContextMaker(Protocol):
    """Makes a TLS context, for a client that may need a second one."""

    def __call__(self, *, check_dates: bool) -> ssl.SSLContext:
        """A context that checks the dates of certificates, or does not."""
        ...


class UntrustedError(errors.UnreachableError):
    """The server proved itself to another CA than ours: the CA was changed, or it is not our collector."""


def verified_context(ca_pem: bytes, *, check_dates: bool = True) -> ssl.SSLContext:
    """TLS 1.2 or later, verified by this CA alone, the host name or address checked.

    Args:
        ca_pem: one or more certificates; each is trusted by itself, whether or not it signed itself.
        check_dates: False for a host whose clock may be wrong: everything else is still checked.

    Raises:
        StateError: there is no certificate in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without it OpenSSL would insist on a self-signed root above a pinned intermediate, which we do not have.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not check_dates:
        context.verify_flags |= _NO_CHECK_TIME
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise errors.StateError(
            "what is kept as the collector's CA is none; enrol this host again"
        ) from error
    return context


def unverified_context(*, check_dates: bool = False) -> ssl.SSLContext:
    """For fetching the CA certificate before we know it, and nothing else: it is checked against a pin.

    Args:
        check_dates: one shape with `verified_context`; nothing at all is checked here.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def date_failure(error: BaseException) -> str | None:
    """`expired` or `not yet valid` when that is why the certificate was refused, anything else None."""
    refusal = _refusal(error)
    return None if refusal is None else _DATE_FAILURES.get(refusal.verify_code)


def untrusted(error: BaseException) -> bool:
    """Whether the certificate was refused because another CA than ours issued it."""
    refusal = _refusal(error)
    return refusal is not None and refusal.verify_code in _UNTRUSTED


def refusal_words(error: BaseException) -> str | None:
    """OpenSSL's own words for why the certificate was refused; None when it was not the certificate."""
    refusal = _refusal(error)
    return None if refusal is None else refusal.verify_message


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a certificate's public key."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def pinned(pem: bytes, pins: Collection[str], whence: str) -> bytes:
    """The certificates among these that have one of the pins, as PEM.

    Args:
        pem: one or more certificates.
        pins: as `pin_of` writes them.
        whence: where they come from, for the message.

    Raises:
        CollectorError: they are no certificates, or none has the pin. Nobody may be told a secret then.
    """
    found = certificates(pem, whence)
    kept = [certificate for certificate in found if pin_of(certificate) in pins]
    if not kept:
        raise errors.CollectorError(
            f"{whence} is not the CA that was pinned: it has {', '.join(map(pin_of, found))} and the pin is"
            f" {', '.join(sorted(pins))}. Nothing was sent. Ask the collector's operator for the pin"
            f" (`fleet serve --init` prints it); if it is right, somebody is in between"
        )
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in kept)


def certificates(pem: bytes, whence: str) -> list[x509.Certificate]:
    """The certificates in a PEM text. Raises CollectorError when there is none."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        # A key of an unknown kind is found out here, not in the middle of a comparison.
        for certificate in found:
            certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise errors.CollectorError(f"{whence} is no certificate in PEM ({type(error).__name__})") from error
    return found


def _refusal(error: BaseException) -> ssl.SSLCertVerificationError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first: the HTTP client wraps TLS errors twice."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__
