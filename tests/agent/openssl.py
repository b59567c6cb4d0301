# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys made, and read back, by the openssl command, which we did not write."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


def run(*argv: str | Path, given: bytes = b"") -> bytes:
    """Standard output of openssl."""
    done = subprocess.run(["openssl", *map(str, argv)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class Made:
    """A self-signed certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return run("x509", "-outform", "DER", given=self.certificate)


def make(folder: Path, subject: str, *arguments: str, newkey: str = "ec", days: int = 30) -> Made:
    """A self-signed certificate.

    Args:
        subject: as openssl writes it, `/CN=web/O=Example`.
        arguments: further ones of `openssl req -x509`.
    """
    key, certificate = folder / "made.key", folder / "made.crt"
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256") if newkey == "ec" else ()
    run(
        "req", "-x509", "-newkey", newkey, *curve, "-nodes", "-subj", subject, "-days", str(days),
        "-keyout", key, "-out", certificate, *arguments,
    )  # fmt: skip
    made = Made(certificate.read_bytes(), key.read_bytes())
    key.unlink()
    certificate.unlink()
    return made


@dataclass(frozen=True)
class Read:
    """What openssl reads of a certificate."""

    sha256: str
    serial: int
    subject: str
    issuer: str
    not_before: str
    not_after: str
    signature: str
    key_bits: int | None


def read(der: bytes) -> Read:
    """Its reading of one certificate."""
    out = run(
        "x509", "-inform", "DER", "-noout", "-fingerprint", "-sha256", "-serial", "-subject", "-issuer",
        "-dates", "-dateopt", "iso_8601", "-nameopt", "RFC2253,-esc_msb,utf8", "-text",
        "-certopt", "no_extensions,no_subject,no_issuer,no_validity",
        given=der,
    ).decode()  # fmt: skip
    fields = dict(line.split("=", 1) for line in out.splitlines() if line[:1] != " " and "=" in line)
    signature = re.search(r"Signature Algorithm: (\S+)", out)
    bits = re.search(r"Public-Key: \((\d+) bit\)", out)
    assert signature is not None
    return Read(
        sha256=fields["sha256 Fingerprint"].replace(":", "").lower(),
        serial=int(fields["serial"], 16),
        subject=fields["subject"],
        issuer=fields["issuer"],
        not_before=_timestamp(fields["notBefore"]),
        not_after=_timestamp(fields["notAfter"]),
        signature=signature[1],
        key_bits=int(bits[1]) if bits else None,
    )


def _timestamp(moment: str) -> str:
    return moment.replace(" ", "T").removesuffix("Z") + ".000000Z"
