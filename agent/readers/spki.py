# SPDX-License-Identifier: Apache-2.0
"""Which public key is this? A DER SubjectPublicKeyInfo in, `asset.PublicKey` out."""

from __future__ import annotations

import hashlib
import re
import warnings

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agent.model.asset import PublicKey
from agent.readers import der

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
# Named curves that the library does not read (any more). They are just what a report must be able to name:
# too small, binary, or national. SEC 2 version 1, ANSI X9.62, RFC 5639, GB/T 32918.
_OTHER_CURVES = {
    "1.3.132.0.1": "sect163k1",
    "1.3.132.0.2": "sect163r1",
    "1.3.132.0.3": "sect239k1",
    "1.3.132.0.4": "sect113r1",
    "1.3.132.0.5": "sect113r2",
    "1.3.132.0.6": "secp112r1",
    "1.3.132.0.7": "secp112r2",
    "1.3.132.0.8": "secp160r1",
    "1.3.132.0.9": "secp160k1",
    "1.3.132.0.15": "sect163r2",
    "1.3.132.0.16": "sect283k1",
    "1.3.132.0.17": "sect283r1",
    "1.3.132.0.22": "sect131r1",
    "1.3.132.0.23": "sect131r2",
    "1.3.132.0.24": "sect193r1",
    "1.3.132.0.25": "sect193r2",
    "1.3.132.0.26": "sect233k1",
    "1.3.132.0.27": "sect233r1",
    "1.3.132.0.28": "secp128r1",
    "1.3.132.0.29": "secp128r2",
    "1.3.132.0.30": "secp160r2",
    "1.3.132.0.31": "secp192k1",
    "1.3.132.0.32": "secp224k1",
    "1.3.132.0.36": "sect409k1",
    "1.3.132.0.37": "sect409r1",
    "1.3.132.0.38": "sect571k1",
    "1.3.132.0.39": "sect571r1",
    "1.2.840.10045.3.1.2": "prime192v2",
    "1.2.840.10045.3.1.3": "prime192v3",
    "1.2.840.10045.3.1.4": "prime239v1",
    "1.2.840.10045.3.1.5": "prime239v2",
    "1.2.840.10045.3.1.6": "prime239v3",
    "1.3.36.3.3.2.8.1.1.1": "brainpoolP160r1",
    "1.3.36.3.3.2.8.1.1.2": "brainpoolP160t1",
    "1.3.36.3.3.2.8.1.1.3": "brainpoolP192r1",
    "1.3.36.3.3.2.8.1.1.4": "brainpoolP192t1",
    "1.3.36.3.3.2.8.1.1.5": "brainpoolP224r1",
    "1.3.36.3.3.2.8.1.1.6": "brainpoolP224t1",
    "1.3.36.3.3.2.8.1.1.8": "brainpoolP256t1",
    "1.3.36.3.3.2.8.1.1.9": "brainpoolP320r1",
    "1.3.36.3.3.2.8.1.1.10": "brainpoolP320t1",
    "1.3.36.3.3.2.8.1.1.12": "brainpoolP384t1",
    "1.3.36.3.3.2.8.1.1.14": "brainpoolP512t1",
    "1.2.156.10197.1.301": "SM2",
}
_SIZE = re.compile(r"\d{3}")
# SM2 is the one curve whose name does not carry its size (GB/T 32918.5).
_SM2_BITS = 256
# PKCS #3 and ANSI X9.42: the parameters begin with the prime. The library is about to drop these keys.
_DH = ("1.2.840.113549.1.3.1", "1.2.840.10046.2.1")

_RFC_8410: dict[type, str] = {
    ed25519.Ed25519PublicKey: "Ed25519",
    ed448.Ed448PublicKey: "Ed448",
    x25519.X25519PublicKey: "X25519",
    x448.X448PublicKey: "X448",
}


def parse_public_key(data: bytes) -> PublicKey:
    """The key in a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).

    A key that cannot be decoded is named by its algorithm's OID, without a size.

    Raises:
        MalformedDerError: not even an algorithm is named in it.
    """
    identity = hashlib.sha256(data).hexdigest()
    identifier, _ = der.read(data).parts(2)
    dotted = der.algorithm(identifier)
    family, bits, curve = _read_here(dotted, identifier) or _read_by_library(data) or (dotted, None, None)
    return PublicKey(algorithm=family, spki_sha256=identity, bits=bits, curve=curve)


_Read = tuple[str, int | None, str | None]


def _read_here(dotted: str, identifier: der.Element) -> _Read | None:
    """Family, bits and curve of what the library does not read."""
    parameters = identifier.children()[1:]
    if dotted == _EC_PUBLIC_KEY and parameters and parameters[0].tag == der.OBJECT_IDENTIFIER:
        curve = _OTHER_CURVES.get(der.oid(parameters[0]))
        if curve is not None:
            size = _SIZE.search(curve)
            return "EC", int(size[0]) if size else _SM2_BITS, curve
    if dotted in _DH and parameters and parameters[0].tag == der.SEQUENCE:
        prime = parameters[0].children()[:1]
        if prime and prime[0].tag == der.INTEGER:
            return "DH", int.from_bytes(prime[0].value, "big").bit_length(), None
    return None


def _read_by_library(data: bytes) -> _Read | None:
    try:
        with warnings.catch_warnings():
            # Keys that the library is about to stop reading are what we are here to find.
            warnings.simplefilter("ignore")
            key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "EC", key.key_size, key.curve.name
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return "RSA" if isinstance(key, rsa.RSAPublicKey) else "DSA", key.key_size, None
    # The others of RFC 8410 are of one size; anything else is known by its OID.
    families = [family for kind, family in _RFC_8410.items() if isinstance(key, kind)]
    return (families[0], None, None) if families else None
