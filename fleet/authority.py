# SPDX-License-Identifier: Apache-2.0
"""Whom do the agents trust? The collector's private CA, its server certificate, and the pin of the CA.

An agent is told the pin out of band, fetches the CA over an unverified connection, compares, and only then
trusts. So the pin is over the CA's SubjectPublicKeyInfo: it survives a renewal of the CA certificate with the
same key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet import errors, private

_CA_DAYS = 3650
_SERVER_DAYS = 365
# A month leaves time to notice that a collector, which renews at start, has not been restarted.
RENEW_BEFORE = dt.timedelta(days=30)
# Hosts whose clocks are a little behind must not see a certificate from the future.
_BACKDATE = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """The private CA of one collector."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The CA certificate as agents fetch it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pin(self) -> str:
        """`sha256:` and hex over the DER SubjectPublicKeyInfo."""
        return pin_of(self.certificate)

    def __repr__(self) -> str:
        return f"Authority({self.pin})"


@dataclass(frozen=True)
class ServerFiles:
    """What the TLS server loads: a chain in PEM and its key."""

    chain: Path
    key: Path


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a certificate's public key."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def create_authority(directory: Path, now: dt.datetime) -> Authority:
    """The CA in that directory, made when there is none: EC P-256, ten years, signs certificates only.

    Raises:
        errors.ConfigError: the directory or its files cannot be used.
    """
    if (directory / "ca.key").exists():
        return load_authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Cryptofleet CA {now:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key.public_key(), now, now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(certificate, key)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The certificate first: a key whose certificate is there marks the CA as complete.
        private.write(directory / "ca.pem", authority.pem)
        private.write(directory / "ca.key", _key_pem(key))
    except OSError as error:
        raise errors.ConfigError(f"cannot keep the CA in {directory}: {error.strerror}") from error
    return authority


def load_authority(directory: Path) -> Authority:
    """The CA in that directory.

    Raises:
        errors.ConfigError: there is none, its files cannot be read or do not belong together, or others can
            read its key.
    """
    try:
        certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key(private.read(directory / "ca.key"), password=None)
    except FileNotFoundError as error:
        raise errors.ConfigError(f"no CA in {directory}; make one with `fleet serve --init`") from error
    except (OSError, ValueError) as error:
        raise errors.ConfigError(f"cannot read the CA in {directory}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise errors.ConfigError(
            f"ca.pem and ca.key in {directory} do not belong together; restore both from one backup"
        )
    return Authority(certificate, key)


def ensure_server_certificate(
    authority: Authority, directory: Path, names: tuple[str, ...], now: dt.datetime
) -> tuple[ServerFiles, bool]:
    """The server's certificate for these names; a new one where the old is missing, too narrow or ends soon.

    Args:
        authority: the CA that issues it.
        directory: where chain and key lie.
        names: DNS names and IP addresses.
        now: decides about renewal; aware, UTC.

    Returns:
        The files, and whether they are new.

    Raises:
        errors.ConfigError: the files cannot be written, or the CA itself has ended.
    """
    if authority.certificate.not_valid_after_utc <= now:
        raise errors.ConfigError(
            f"the CA ended at {authority.certificate.not_valid_after_utc:%Y-%m-%d}; "
            "its agents must be given a new one"
        )
    files = ServerFiles(directory / "server.pem", directory / "server.key")
    if _serves(files, authority, names, now):
        return files, False
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + dt.timedelta(days=_SERVER_DAYS), authority.certificate.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cryptofleet collector")])
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.write(files.key, _key_pem(key))
        private.write(files.chain, certificate.public_bytes(serialization.Encoding.PEM) + authority.pem)
    except OSError as error:
        raise errors.ConfigError(
            f"cannot keep the server certificate in {directory}: {error.strerror}"
        ) from error
    return files, True


def own_names(listen_host: str, more: tuple[str, ...]) -> tuple[str, ...]:
    """What the certificate speaks for: names asked for, this machine's, loopback, the address listened on."""
    # No fully qualified name: finding it asks the resolver, which may take its time; --name says it.
    found = [*more, socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    if not _is_unspecified(listen_host):
        found.append(listen_host)
    return tuple(sorted({name for name in found if name}))


def _serves(files: ServerFiles, authority: Authority, names: tuple[str, ...], now: dt.datetime) -> bool:
    """Whether the files there do, for these names and long enough."""
    try:
        certificate = x509.load_pem_x509_certificate(files.chain.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(authority.certificate)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.InvalidVersion):
        return False
    return (
        key.public_key() == certificate.public_key()
        and certificate.not_valid_after_utc - now > RENEW_BEFORE
        and certificate.not_valid_before_utc <= now
        and all(_general_name(name) in held for name in names)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        # What is not a host name in ASCII or IDNA cannot stand in a certificate.
        return x509.DNSName(name.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError) as error:
        raise errors.UsageError(f"{name!r} is neither an IP address nor a host name") from error


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
