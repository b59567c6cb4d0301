# SPDX-License-Identifier: Apache-2.0
"""Which certificates are in this file? Asked about files of any kind, where their bytes can do no harm.

These functions are for `Host.parse`: they read an open file and say what it holds, never more of its bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from msgspec import Struct

from agent import errors
from agent.model.asset import Certificate
from agent.model.inventory import SkipReason
from agent.readers import der, pem, truststore, x509
from agent.readers.whole import READ_BYTES_MAX, read_fd
from agent.readers.x509 import CERTIFICATE_BYTES_MAX, MalformedCertificateError, parse_certificate

_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_HEAD_BYTES = 4096
# The largest bundle of roots seen has 600 KiB. Larger text is a log or a dump. It is read no further than its
# head, and counted as too large only when a PEM block begins there: a file of certificates begins with them.
FILE_BYTES_MAX = 4 * 1024 * 1024
_MARKER = b"-----BEGIN "
# All intermediates that the public certificate authorities disclose are 2,500. A file of markers alone costs
# as much time as its markers, and anybody may write one.
_BLOCKS_MAX = 5_000
# What is remembered, 3 KiB each: a host's certificates stand in several files each, hardly more are distinct.
_PARSED_MAX = 10_000

prepare = x509.prepare


class CertificateFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one file holds.

    Attributes:
        certificates: each once, in the order of the file.
        searched_bytes: how much text was read; 0 where it was no text, or DER.
        skipped: why something in it was not read, each reason once.
    """

    certificates: tuple[Certificate, ...] = ()
    searched_bytes: int = 0
    skipped: tuple[SkipReason, ...] = ()


def read_certificates(fd: int, path: str, text_bytes_max: int, certificates_max: int) -> CertificateFile:
    """The certificates in a file: PEM blocks in text, DER by its frame.

    Args:
        fd: see `agent.guard.parsing.Function`.
        path: for messages.
        text_bytes_max: text of more bytes is left unread, as beyond the budget.
        certificates_max: so many that were not read lately are read; more are beyond the budget.

    Raises:
        HostError: the file cannot be read.
    """
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        raise errors.host_error(error, path) from error
    head = read_fd(fd, _HEAD_BYTES, path)
    reading = _Reading(certificates_max)
    if head[:1] == b"\x30" and size <= CERTIFICATE_BYTES_MAX and der.total_length(head) == size:
        try:
            found = tuple(reading.read(head + read_fd(fd, size - len(head), path)))
        except MalformedCertificateError:
            # Keys, requests and much else are framed so. What it is not is no fault of it.
            found = ()
        return CertificateFile(certificates=found, skipped=tuple(reading.skipped))
    if b"\0" in head:
        return CertificateFile()
    if size > FILE_BYTES_MAX:
        return CertificateFile(skipped=("too_large",) if _MARKER in head else ())
    if size > text_bytes_max:
        return CertificateFile(skipped=("budget",))
    whole = head + read_fd(fd, FILE_BYTES_MAX - len(head), path) if size > len(head) else head
    markers = whole.count(_MARKER)
    if markers > _BLOCKS_MAX:
        return CertificateFile(searched_bytes=len(whole), skipped=("too_large",))
    found = tuple(reading.read_blocks(whole)) if markers else ()
    return CertificateFile(certificates=found, searched_bytes=len(whole), skipped=tuple(reading.skipped))


def read_p11_kit(fd: int, path: str, purpose: str | None) -> frozenset[str]:
    """What a file in p11-kit's format ships for a purpose; see `truststore.shipped_by_p11_kit`.

    Raises:
        HostError: it cannot be read, or is too large.
    """
    page = read_fd(fd, READ_BYTES_MAX + 1, path)
    if len(page) > READ_BYTES_MAX:
        raise errors.TooLargeError(path, f"more than {READ_BYTES_MAX} bytes")
    return truststore.shipped_by_p11_kit(page, purpose)


# By digest of the bytes. One certificate stands in many files: alone, in bundles, beside its key.
_parsed: dict[bytes, Certificate] = {}


class _Reading:
    """One file's certificates."""

    def __init__(self, certificates_max: int) -> None:
        self.skipped: dict[SkipReason, None] = {}
        self._left = certificates_max
        self._given: set[str] = set()

    def read_blocks(self, whole: bytes) -> Iterator[Certificate]:
        """Those in PEM."""
        for block in pem.blocks(whole, _LABELS):
            try:
                yield from self.read(block.data or b"")
            except MalformedCertificateError:
                self.skipped["malformed"] = None

    def read(self, data: bytes) -> Iterator[Certificate]:
        """This one; none when it was given before or the budget is spent.

        Raises:
            MalformedCertificateError: it is none.
        """
        digest = hashlib.sha256(data).digest()
        certificate = _parsed.get(digest)
        if certificate is None:
            if self._left <= 0:
                self.skipped["budget"] = None
                return
            certificate = parse_certificate(data)
            self._left -= 1
            if len(_parsed) >= _PARSED_MAX:
                _parsed.clear()
            _parsed[digest] = certificate
        if certificate.sha256 not in self._given:
            self._given.add(certificate.sha256)
            yield certificate
