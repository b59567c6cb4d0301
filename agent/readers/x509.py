# SPDX-License-Identifier: Apache-2.0
"""What does a certificate say? DER in, `asset.Certificate` out, whatever oddities real ones have.

The frame of a certificate is read here and its fields one by one, so that a name in the wrong alphabet, a key
of an unknown kind or one unreadable extension costs that field and not the certificate. Extensions are
decoded by the `cryptography` library.

Source: RFC 5280; names RFC 4514.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from agent.model import canonical
from agent.model.asset import Certificate, SignatureAlgorithm
from agent.readers import der, distinguished_name
from agent.readers.distinguished_name import format_name
from agent.readers.spki import parse_public_key

# The largest signature in use (SLH-DSA-SHAKE-256f) has 49,856 bytes; RSA certificates have 1,000 to 3,000 in
# all.
CERTIFICATE_BYTES_MAX = 64 * 1024
_VERSION, _EXTENSIONS = 0xA0, 0xA3


class MalformedCertificateError(ValueError):
    """The bytes are not a certificate. The message quotes none of them: they may be a secret."""


def prepare() -> None:
    """Have in memory what reading a certificate imports at first use; see `agent.guard.parsing.Function`."""
    distinguished_name.prepare()


def parse_certificate(data: bytes) -> Certificate:
    """One certificate.

    Args:
        data: begins with the DER of a certificate; what follows it is left out, as OpenSSL appends its trust
            settings to
            a TRUSTED CERTIFICATE.

    Raises:
        MalformedCertificateError: no certificate, larger than CERTIFICATE_BYTES_MAX, or with a validity that
            is no date.
    """
    try:
        whole = der.read(data)
        if whole.end > CERTIFICATE_BYTES_MAX:
            raise MalformedCertificateError(f"more than {CERTIFICATE_BYTES_MAX} bytes")
        return _certificate(whole)
    except der.MalformedDerError as error:
        raise MalformedCertificateError(f"not a certificate: {error}") from error


def _certificate(whole: der.Element) -> Certificate:
    tbs, algorithm, signature = whole.parts(3)
    fields = tbs.children() if tbs.tag == der.SEQUENCE else []
    version = 1
    if fields and fields[0].tag == _VERSION:
        version = _integer(fields.pop(0).parts(1)[0]) + 1
    frame = (der.INTEGER, *5 * (der.SEQUENCE,))
    if signature.tag != der.BIT_STRING or tuple(field.tag for field in fields[:6]) != frame:
        raise der.MalformedDerError("its fields are not those of a certificate")
    serial, _, issuer, validity, subject, spki = fields[:6]
    not_before, not_after = (_time(moment) for moment in validity.parts(2))
    tail = [field for field in fields[6:] if field.tag == _EXTENSIONS]
    read = _Extensions(tail[0].parts(1)[0].children() if tail else [])
    return Certificate(
        sha256=hashlib.sha256(whole.encoded).hexdigest(),
        subject=format_name(subject),
        issuer=format_name(issuer),
        serial=f"{_integer(serial):x}",
        not_before=canonical.timestamp_of(not_before),
        not_after=canonical.timestamp_of(not_after),
        key=parse_public_key(spki.encoded),
        signature=_signature(algorithm),
        is_ca=read.is_ca,
        self_issued=subject.value == issuer.value != b"",
        version=version,
        names=read.names,
        key_usage=read.key_usage,
        extended_key_usage=read.extended_key_usage,
        subject_key_id=read.subject_key_id,
        authority_key_id=read.authority_key_id,
    )


def _integer(element: der.Element) -> int:
    if element.tag != der.INTEGER or not element.value:
        raise der.MalformedDerError("not an integer")
    return int.from_bytes(element.value, "big", signed=True)


# -- time ----------------------------------------------------------------------------------------------------

# RFC 5280 wants seconds and Z; older software left out the seconds, wrote offsets and fractions.
_UTC_TIME = re.compile(rb"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?()(Z|[+-]\d{4})\Z")
_GENERALIZED_TIME = re.compile(rb"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:[.,](\d+))?(Z|[+-]\d{4})\Z")


def _time(element: der.Element) -> dt.datetime:
    """UTCTime or GeneralizedTime (RFC 5280 section 4.1.2.5), to the second."""
    forms = {0x17: _UTC_TIME, 0x18: _GENERALIZED_TIME}
    match = forms[element.tag].match(element.value) if element.tag in forms else None
    if match is None:
        raise der.MalformedDerError("its validity is no date")
    year = int(match[1])
    if element.tag == 0x17:
        year += 1900 if year >= 50 else 2000
    month, day, hour, minute, second = (int(match[group] or 0) for group in range(2, 7))
    offset = dt.timedelta()
    if match[8] != b"Z":
        minutes = int(match[8][1:3]) * 60 + int(match[8][3:5])
        offset = dt.timedelta(minutes=-minutes if match[8][:1] == b"-" else minutes)
    try:
        return dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC) - offset
    except (ValueError, OverflowError) as error:
        raise der.MalformedDerError("its validity is no date") from error


# -- signatures ----------------------------------------------------------------------------------------------

# OID -> (registered name, hash; None where the scheme fixes its own). RFC 3279, 4055, 5758, 8410, 8692, 9814,
# 9881, 9909.
_SIGNATURES: dict[str, tuple[str, str | None]] = {
    "1.2.840.113549.1.1.2": ("md2WithRSAEncryption", "MD2"),
    "1.2.840.113549.1.1.4": ("md5WithRSAEncryption", "MD5"),
    "1.2.840.113549.1.1.5": ("sha1WithRSAEncryption", "SHA-1"),
    "1.3.14.3.2.29": ("sha1WithRSA", "SHA-1"),
    "1.2.840.113549.1.1.10": ("RSASSA-PSS", None),
    "1.2.840.113549.1.1.11": ("sha256WithRSAEncryption", "SHA-256"),
    "1.2.840.113549.1.1.12": ("sha384WithRSAEncryption", "SHA-384"),
    "1.2.840.113549.1.1.13": ("sha512WithRSAEncryption", "SHA-512"),
    "1.2.840.113549.1.1.14": ("sha224WithRSAEncryption", "SHA-224"),
    "1.2.840.10040.4.3": ("dsa-with-SHA1", "SHA-1"),
    "2.16.840.1.101.3.4.3.1": ("dsa-with-SHA224", "SHA-224"),
    "2.16.840.1.101.3.4.3.2": ("dsa-with-SHA256", "SHA-256"),
    "1.2.840.10045.4.1": ("ecdsa-with-SHA1", "SHA-1"),
    "1.2.840.10045.4.3.1": ("ecdsa-with-SHA224", "SHA-224"),
    "1.2.840.10045.4.3.2": ("ecdsa-with-SHA256", "SHA-256"),
    "1.2.840.10045.4.3.3": ("ecdsa-with-SHA384", "SHA-384"),
    "1.2.840.10045.4.3.4": ("ecdsa-with-SHA512", "SHA-512"),
    "1.3.101.112": ("Ed25519", None),
    "1.3.101.113": ("Ed448", None),
    "2.16.840.1.101.3.4.3.17": ("ML-DSA-44", None),
    "2.16.840.1.101.3.4.3.18": ("ML-DSA-65", None),
    "2.16.840.1.101.3.4.3.19": ("ML-DSA-87", None),
}


# RSASSA-PSS names its hash in its parameters (RFC 4055 section 3.1).
_HASHES = {
    "1.2.840.113549.2.5": "MD5",
    "1.3.14.3.2.26": "SHA-1",
    "2.16.840.1.101.3.4.2.1": "SHA-256",
    "2.16.840.1.101.3.4.2.2": "SHA-384",
    "2.16.840.1.101.3.4.2.3": "SHA-512",
    "2.16.840.1.101.3.4.2.4": "SHA-224",
    "2.16.840.1.101.3.4.2.7": "SHA3-224",
    "2.16.840.1.101.3.4.2.8": "SHA3-256",
    "2.16.840.1.101.3.4.2.9": "SHA3-384",
    "2.16.840.1.101.3.4.2.10": "SHA3-512",
}


def _signature(algorithm: der.Element) -> SignatureAlgorithm:
    dotted = der.algorithm(algorithm)
    name, hash_name = _SIGNATURES.get(dotted, (None, None))
    if name == "RSASSA-PSS":
        hash_name = _pss_hash(algorithm)
    return SignatureAlgorithm(oid=dotted, name=name, hash=hash_name)


def _pss_hash(algorithm: der.Element) -> str | None:
    parameters = algorithm.children()[1:]
    stated = [part for part in parameters[0].children() if part.tag == 0xA0] if parameters else []
    # What is not written is the default of the ASN.1 module.
    return _HASHES.get(der.algorithm(stated[0].parts(1)[0])) if stated else "SHA-1"


# -- extensions ----------------------------------------------------------------------------------------------

_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}
_READ = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)
_READ_OIDS = {kind.oid.dotted_string for kind in _READ}
# An Ed25519 certificate (RFC 8410) that says nothing, to carry extensions to the library one by one.
_ED25519 = der.encode(der.SEQUENCE, bytes.fromhex("06032b6570"))
_CARRIER = (
    der.encode(_VERSION, bytes.fromhex("020102")),
    bytes.fromhex("020101"),
    _ED25519,
    der.encode(der.SEQUENCE),
    der.encode(der.SEQUENCE, *2 * (der.encode(0x17, b"200101000000Z"),)),
    der.encode(der.SEQUENCE),
    der.encode(der.SEQUENCE, _ED25519, der.encode(der.BIT_STRING, bytes(33))),
)


class _Extensions:
    """What is read of a certificate's extensions. An unreadable one says nothing, and silences no other."""

    def __init__(self, elements: Iterable[der.Element]) -> None:
        wanted = [element.encoded for element in elements if _extension_oid(element) in _READ_OIDS]
        self._found: dict[type[x509.ExtensionType], x509.ExtensionType] = {}
        with warnings.catch_warnings():
            # The library warns of what it will refuse one day. Here it is a fact to report.
            warnings.simplefilter("ignore")
            for extension in _decode(wanted):
                self._found.setdefault(type(extension), extension)
            self.names = tuple(sorted(set(self._names())))

    @property
    def is_ca(self) -> bool:
        found = self._found.get(x509.BasicConstraints)
        return isinstance(found, x509.BasicConstraints) and found.ca

    def _names(self) -> Iterator[str]:
        found = self._found.get(x509.SubjectAlternativeName)
        for name in found if isinstance(found, x509.SubjectAlternativeName) else ():
            match name:
                case x509.DNSName():
                    yield f"DNS:{name.value}"
                case x509.IPAddress():
                    yield f"IP:{name.value}"
                case x509.UniformResourceIdentifier():
                    yield f"URI:{name.value}"
                case x509.RFC822Name():
                    yield f"email:{name.value}"
                case x509.DirectoryName():
                    yield f"DirName:{format_name(der.read(name.value.public_bytes()))}"
                case x509.RegisteredID():
                    yield f"RID:{name.value.dotted_string}"
                case x509.OtherName():
                    # What it holds is of a form that the OID tells and we do not know.
                    yield f"otherName:{name.type_id.dotted_string}"

    @property
    def key_usage(self) -> tuple[str, ...]:
        found = self._found.get(x509.KeyUsage)
        if not isinstance(found, x509.KeyUsage):
            return ()
        bits = {
            "digitalSignature": found.digital_signature,
            "nonRepudiation": found.content_commitment,
            "keyEncipherment": found.key_encipherment,
            "dataEncipherment": found.data_encipherment,
            "keyAgreement": found.key_agreement,
            "keyCertSign": found.key_cert_sign,
            "cRLSign": found.crl_sign,
            # These two mean something only beside keyAgreement (RFC 5280 section 4.2.1.3).
            "encipherOnly": found.key_agreement and found.encipher_only,
            "decipherOnly": found.key_agreement and found.decipher_only,
        }
        return tuple(sorted(name for name, is_set in bits.items() if is_set))

    @property
    def extended_key_usage(self) -> tuple[str, ...]:
        found = self._found.get(x509.ExtendedKeyUsage)
        if not isinstance(found, x509.ExtendedKeyUsage):
            return ()
        dotted = {purpose.dotted_string for purpose in found}
        return tuple(sorted(_PURPOSES.get(purpose, purpose) for purpose in dotted))

    @property
    def subject_key_id(self) -> str | None:
        found = self._found.get(x509.SubjectKeyIdentifier)
        return found.digest.hex() if isinstance(found, x509.SubjectKeyIdentifier) else None

    @property
    def authority_key_id(self) -> str | None:
        found = self._found.get(x509.AuthorityKeyIdentifier)
        if not isinstance(found, x509.AuthorityKeyIdentifier) or found.key_identifier is None:
            return None
        return found.key_identifier.hex()


def _extension_oid(element: der.Element) -> str:
    children = element.children()
    return der.oid(children[0]) if children else ""


def _decode(extensions: list[bytes]) -> list[x509.ExtensionType]:
    """The library's reading of encoded extensions, one by one where it refuses them together."""
    if not extensions:
        return []
    tbs = der.encode(der.SEQUENCE, *_CARRIER, der.encode(_EXTENSIONS, der.encode(der.SEQUENCE, *extensions)))
    carrier = der.encode(der.SEQUENCE, tbs, _ED25519, der.encode(der.BIT_STRING, bytes(65)))
    try:
        return [extension.value for extension in x509.load_der_x509_certificate(carrier).extensions]
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        if len(extensions) == 1:
            return []
        return [found for extension in extensions for found in _decode([extension])]
