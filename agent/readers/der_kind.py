# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic structure do these bytes begin, by the frames of its ASN.1 alone?

Only the first bytes need to be here: tags and lengths are followed as far as they can be seen, and every
length must fit into the one around it. No value is understood but versions and object identifiers, so that
nothing of a key is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.readers import der

_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_TIMES = (_UTC_TIME, _GENERALIZED_TIME)
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1

# Object identifiers by their encoded value: they are compared, never printed.
_PKCS7 = bytes.fromhex("2a864886f70d0107")  # 1.2.840.113549.1.7
_PKCS7_DATA = _PKCS7 + b"\1"
_PKCS7_SIGNED = _PKCS7 + b"\2"
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
# Password-based schemes: RFC 8018 appendix A and RFC 7292 appendix C.
_PASSWORD_BASED = (bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c01"))
_TPM_KEY = bytes.fromhex("6781050a01")  # 2.23.133.10.1, keys that a TPM wrapped

# 512 bits: no key in use is shorter. A smaller first number is a signature or a message of another protocol.
_MODULUS_BYTES_MIN = 64
# Both RSA's public exponent and the generator of a group are small numbers in every file that tools write.
_SMALL_BYTES_MAX = 8


class _Frame(NamedTuple):
    """Tag, and where the value begins and ends; the end may lie behind the bytes that are here."""

    tag: int
    content: int
    end: int


class _BrokenFrameError(ValueError):
    """A length that does not fit into what is around it, or a tag that no structure of ours has."""


def structure(data: bytes, length: int) -> tuple[str, int] | None:
    """The structure that begins here, and how many bytes it has; None where it is none that we know.

    Args:
        data: the first bytes.
        length: how many there are in all, of which `data` may be the beginning.

    Returns:
        One of certificate, certificate-request, crl, pkcs7-certificates, pkcs7, pkcs8, pkcs8-encrypted,
        pkcs1, sec1, dsa, tss2, pkcs12, bcfks, public-key, pkcs1-public, dh-parameters, dsa-parameters. The
        number of bytes is `length` where the encoding does not say it (BER's indefinite form).
    """
    try:
        outer = _frame(data, 0, length)
        if outer is None or outer.tag != der.SEQUENCE:
            return None
        name = _name(data, outer, _children(data, outer, 10))
    except _BrokenFrameError:
        return None
    return None if name is None else (name, outer.end)


def _frame(data: bytes, at: int, limit: int) -> _Frame | None:
    """The frame at an offset; None where it cannot be seen whole. Raises _BrokenFrameError."""
    if at + 2 > limit:
        raise _BrokenFrameError
    if at + 2 > len(data):
        return None
    tag, length = data[at], data[at + 1]
    content = at + 2
    if tag & 0x1F == 0x1F or not tag:
        raise _BrokenFrameError
    if length == 0x80:
        # BER's indefinite form, which PKCS #12 and #7 come in too: the end is told at the end.
        return _Frame(tag, content, limit)
    if length > 0x80:
        count = length & 0x7F
        # Four bytes of length are 4 GiB.
        if count > 4:
            raise _BrokenFrameError
        if content + count > len(data):
            return None
        length = int.from_bytes(data[content : content + count], "big")
        content += count
    if content + length > limit:
        raise _BrokenFrameError
    return _Frame(tag, content, content + length)


def _children(data: bytes, outer: _Frame, count_max: int) -> list[_Frame]:
    """The first elements of a constructed value, as far as they can be seen. Raises _BrokenFrameError."""
    found: list[_Frame] = []
    at = outer.content
    while at < outer.end and len(found) < count_max:
        frame = _frame(data, at, outer.end)
        if frame is None:
            break
        found.append(frame)
        at = frame.end
    return found


def _tags(frames: Sequence[_Frame]) -> tuple[int, ...]:
    return tuple(frame.tag for frame in frames)


def _value(data: bytes, frame: _Frame) -> bytes:
    return data[frame.content : min(frame.end, frame.content + 16)]


def _size(frame: _Frame) -> int:
    return frame.end - frame.content


def _object_identifier(data: bytes, frame: _Frame) -> bytes:
    """Value of the identifier that a sequence begins with (an AlgorithmIdentifier); empty where none is."""
    if frame.tag != der.SEQUENCE:
        return b""
    inner = _children(data, frame, 1)
    return _value(data, inner[0]) if _tags(inner) == (der.OBJECT_IDENTIFIER,) else b""


def _name(data: bytes, outer: _Frame, parts: Sequence[_Frame]) -> str | None:
    if not parts or parts[0].end == outer.end:
        return None  # all of ours have two parts or more
    if parts[0].tag == der.SEQUENCE:
        # Of a long one, the first part is all that can be seen.
        return _with_algorithm(data, parts) or _signed(data, parts)
    if len(parts) < 2:
        return None
    if parts[0].tag == der.OBJECT_IDENTIFIER:
        return _content_info(data, parts)
    return _numbered(data, parts) if parts[0].tag == der.INTEGER else None


def _content_info(data: bytes, parts: Sequence[_Frame]) -> str | None:
    """ContentInfo of PKCS #7 and CMS (RFC 5652 section 3), and TPMKey, which begin with their own name."""
    name = _value(data, parts[0])
    if name.startswith(_TPM_KEY):
        return "tss2"
    if not name.startswith(_PKCS7) or len(name) != len(_PKCS7) + 1 or parts[1].tag != _CONTEXT_0:
        return None
    if name != _PKCS7_SIGNED:
        return "pkcs7"
    signed = _children(data, parts[1], 1)
    if _tags(signed) != (der.SEQUENCE,):
        return None
    # SignedData of nobody's signature over nothing is how certificates are carried (RFC 5652 section 5.1:
    # version, digestAlgorithms, encapContentInfo, certificates [0], crls [1], signerInfos).
    inside = _children(data, signed[0], 4)
    holds = _tags(inside) == (der.INTEGER, der.SET, der.SEQUENCE, _CONTEXT_0) and not _size(inside[1])
    return "pkcs7-certificates" if holds else "pkcs7"


def _numbered(data: bytes, parts: Sequence[_Frame]) -> str | None:
    """What begins with a number: a version, or the first number of a key."""
    tags = _tags(parts)
    version = _value(data, parts[0]) if _size(parts[0]) == 1 else b""
    if version == b"\3" and tags[1] == der.SEQUENCE:
        # PFX (RFC 7292 section 4): version 3 and a ContentInfo.
        return "pkcs12" if _object_identifier(data, parts[1]) in (_PKCS7_DATA, _PKCS7_SIGNED) else None
    if version in (b"\0", b"\1") and tags[1:3] == (der.SEQUENCE, der.OCTET_STRING):
        # OneAsymmetricKey (RFC 5958 section 2).
        return "pkcs8" if _object_identifier(data, parts[1]) else None
    if version == b"\1" and tags[1] == der.OCTET_STRING:
        # ECPrivateKey (RFC 5915 section 3): parameters [0] and public key [1] may follow, and nothing else.
        return "sec1" if set(tags[2:]) <= {_CONTEXT_0, _CONTEXT_1} and 16 <= _size(parts[1]) <= 72 else None
    if set(tags[:9]) != {der.INTEGER} or tags[9:] not in ((), (der.SEQUENCE,)):
        return None
    return _private_numbers(parts) if version in (b"\0", b"\1") else _public_numbers(data, parts)


def _private_numbers(parts: Sequence[_Frame]) -> str | None:
    """A version, then numbers and nothing else that can be seen."""
    if _size(parts[1]) < _MODULUS_BYTES_MIN:
        return None
    # RSAPrivateKey (RFC 8017 appendix A.1.2) has nine, the third small, and a sequence where there are more
    # primes than two; OpenSSL's DSA key has six: version, p, q, g, public, private. Of the largest not all
    # can be seen.
    if len(parts) == 6:
        return "dsa"
    return "pkcs1" if len(parts) >= 9 or (len(parts) > 3 and _size(parts[2]) <= 16) else None


def _public_numbers(data: bytes, parts: Sequence[_Frame]) -> str | None:
    """Numbers without a version."""
    if _size(parts[0]) < _MODULUS_BYTES_MIN:
        return None
    if len(parts) == 3 and _size(parts[1]) > 16:
        return "dsa-parameters"  # p, q, g
    if _size(parts[1]) > _SMALL_BYTES_MAX or len(parts) > 3:
        return None
    # A group (PKCS #3: p, g) and a public RSA key (n, e) look alike; 2 and 5 are generators in use, and no
    # exponents in use. Both are `unknown` to who reads the one word.
    is_group = len(parts) == 3 or _value(data, parts[1]) in (b"\2", b"\5")
    return "dh-parameters" if is_group else "pkcs1-public"


def _with_algorithm(data: bytes, parts: Sequence[_Frame]) -> str | None:
    """An algorithm and what it made."""
    name = _object_identifier(data, parts[0])
    # Encrypted keys and public keys are short enough to show both of their parts.
    if name and len(parts) == 2 and parts[1].tag == der.BIT_STRING:
        return "public-key"  # SubjectPublicKeyInfo (RFC 5280 section 4.1)
    if name.startswith(_PASSWORD_BASED) and len(parts) == 2 and parts[1].tag == der.OCTET_STRING:
        return "pkcs8-encrypted"  # EncryptedPrivateKeyInfo (RFC 5958 section 3)
    return None


def _signed(data: bytes, parts: Sequence[_Frame]) -> str | None:
    """Something and the signature over it, which may lie beyond what can be seen."""
    inside = _children(data, parts[0], 6)
    if len(inside) < 2:
        return None
    tags = _tags(inside)
    if inside[0].tag == der.SEQUENCE and tags[1] == der.OCTET_STRING:
        # ObjectStore of Bouncy Castle: EncryptedObjectStoreData, then what guards its integrity.
        return "bcfks" if _object_identifier(data, inside[0]) == _PBES2 else None
    if _is_request(data, inside):
        return "certificate-request"
    if tags[0] == _CONTEXT_0:
        # A version as certificates write it; TBSCertificate goes on with the serial number.
        version = _children(data, inside[0], 1)
        is_one = _tags(version) == (der.INTEGER,) and _size(version[0]) == 1 and tags[1] == der.INTEGER
        return _to_be_signed(data, inside[2:]) if is_one else None
    # Version 1 certificates have none, and begin with the serial number; CRLs from version 2 on have one.
    return _to_be_signed(data, inside[1:] if tags[0] == der.INTEGER else inside)


def _to_be_signed(data: bytes, inside: Sequence[_Frame]) -> str | None:
    """TBSCertificate and TBSCertList (RFC 5280 sections 4.1 and 5.1) from their algorithm on."""
    if len(inside) < 3 or not _object_identifier(data, inside[0]) or not _is_named(data, inside[1]):
        return None
    if inside[2].tag in _TIMES:
        return "crl"
    validity = _tags(_children(data, inside[2], 2)) if inside[2].tag == der.SEQUENCE else ()
    return "certificate" if len(validity) == 2 and set(validity) <= set(_TIMES) else None


def _is_named(data: bytes, frame: _Frame) -> bool:
    """Whether it is a Name: a sequence of sets, also of none."""
    return frame.tag == der.SEQUENCE and set(_tags(_children(data, frame, 4))) <= {der.SET}


def _is_request(data: bytes, inside: Sequence[_Frame]) -> bool:
    """CertificationRequestInfo (RFC 2986 section 4.1): version, subject, public key, attributes [0]."""
    if len(inside) < 3 or inside[0].tag != der.INTEGER or not _is_named(data, inside[1]):
        return False
    key = _children(data, inside[2], 2) if inside[2].tag == der.SEQUENCE else []
    return _tags(key) == (der.SEQUENCE, der.BIT_STRING) and bool(_object_identifier(data, key[0]))
