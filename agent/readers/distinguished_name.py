# SPDX-License-Identifier: Apache-2.0
"""How is a distinguished name written as text? RFC 4514, for names as they are and not as they should be.

Spelled as `openssl x509 -nameopt RFC2253` does, so that an operator can compare the two.
"""

from __future__ import annotations

import codecs
import hashlib
import re

from agent.readers import der

# A name of more characters is no name; it would not fit into a document beside its issuer and its key.
_NAME_CHARS_MAX = 4096
# RFC 4514 section 3, and further descriptors of RFC 4519, RFC 2985 and the CA/Browser Forum, spelled as
# OpenSSL does.
_DESCRIPTORS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}
# String types and how their bytes are meant. Teletex is Latin-1 in practice (RFC 5280 does not define it,
# everybody reads it so); the ASCII types are read as UTF-8 because that is what is in those that are not
# ASCII.
_ENCODINGS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "utf-8",  # NumericString
    0x13: "utf-8",  # PrintableString
    0x14: "latin-1",  # TeletexString
    0x16: "utf-8",  # IA5String
    0x1A: "utf-8",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_SPECIAL = re.compile(r'[,+"\\<>;\x00]')


def prepare() -> None:
    """Import the codecs, which Python does at first use; see `agent.guard.parsing.Function`."""
    for encoding in _ENCODINGS.values():
        codecs.lookup(encoding)


def format_name(element: der.Element) -> str:
    """A distinguished name in RFC 4514 form; values that are no text in its `#` form."""
    relative = []
    for names in reversed(element.children()):
        attributes = [attribute.parts(2) for attribute in names.children()]
        relative.append("+".join(_attribute(kind, value) for kind, value in attributes))
    text = ",".join(relative)
    if len(text) > _NAME_CHARS_MAX:
        digest = hashlib.sha256(element.encoded).hexdigest()
        return f"{text[:100]}... (a name of {len(text)} characters, SHA-256 {digest})"
    return text


def _attribute(kind: der.Element, value: der.Element) -> str:
    dotted = der.oid(kind)
    descriptor = _DESCRIPTORS.get(dotted)
    if descriptor is None or value.tag not in _ENCODINGS:
        # RFC 4514 section 2.4: what has no string form is written as its encoding.
        return f"{descriptor or dotted}=#{value.encoded.hex()}"
    try:
        text = value.value.decode(_ENCODINGS[value.tag])
    except UnicodeDecodeError:
        return f"{descriptor}=#{value.encoded.hex()}"
    escaped = _SPECIAL.sub(lambda char: "\\00" if char[0] == "\0" else "\\" + char[0], text)
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    return f"{descriptor}={escaped}"
