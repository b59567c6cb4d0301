# SPDX-License-Identifier: Apache-2.0
r"""Which keys and certificates stand in this text, as OpenSSL, OpenSSH, GnuPG and PuTTY write them?

Only what one of them would read is taken for one. A block begins at the beginning of a line, as OpenSSL asks
for, and what follows its marker must decode to the structure that the label promises: markers that a
program looks for, a page explains or a template leaves open are none. `pem` is more lenient, for it
looks into files that were chosen by hand.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Iterator

from agent.readers.der_kind import structure
from agent.readers.openpgp_kind import packets

# White space of another kind (vertical tab, no-break) is in no file that a tool wrote.
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Label and indentation; nothing else may stand on the line. Possessive, so that a hostile line of blanks
# costs one pass.
_MARKER = re.compile(rb"^([ \t]*+)-----(BEGIN|END) ([A-Z0-9.# ]{1,48}?)-----[ \t]*+\r?$", re.MULTILINE)
# Headers of RFC 1421 section 4.6 and of OpenPGP's armour (RFC 9580 section 6.2.2), to the empty line.
_HEADERS = re.compile(rb"(?:\s*[A-Za-z][A-Za-z0-9-]*: [^\n]*\n)+(?:[ \t]*\r?\n)?")
_ARMOR_CHECKSUM = re.compile(rb"\n=[A-Za-z0-9+/]{4}\s*$")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
# Less says nothing about what it begins: a cut block must show this much.
_SHOWN_BYTES_MIN = 24

_CERTIFICATE = frozenset({"certificate"})
_PRIVATE = frozenset({"pkcs8", "pkcs8-encrypted", "pkcs1", "sec1", "dsa", "tss2"})
_PUBLIC = frozenset({"public-key", "pkcs1-public", "dh-parameters"})
_GROUPS = frozenset({"dh-parameters", "dsa-parameters", "pkcs1-public"})
_PKCS7 = frozenset({"pkcs7", "pkcs7-certificates"})
_REQUEST = frozenset({"certificate-request"})
# Label: the structures it may hold (RFC 7468; PEM_read_bio(3)), and the kind where structures look alike.
_LABELS: dict[bytes, tuple[frozenset[str], str | None]] = {
    b"CERTIFICATE": (_CERTIFICATE, None),
    b"X509 CERTIFICATE": (_CERTIFICATE, None),
    b"TRUSTED CERTIFICATE": (_CERTIFICATE, "certificate-trusted"),
    b"CERTIFICATE REQUEST": (_REQUEST, None),
    b"NEW CERTIFICATE REQUEST": (_REQUEST, None),
    b"X509 CRL": (frozenset({"crl"}), None),
    b"PKCS7": (_PKCS7, None),
    b"PKCS #7 SIGNED DATA": (_PKCS7, None),
    b"CMS": (_PKCS7, None),
    b"PUBLIC KEY": (_PUBLIC, "public-key"),
    b"RSA PUBLIC KEY": (_PUBLIC, "pkcs1-public"),
    b"DH PARAMETERS": (_GROUPS, "dh-parameters"),
    b"X9.42 DH PARAMETERS": (_GROUPS, "dh-parameters"),
    b"DSA PARAMETERS": (_GROUPS, "dsa-parameters"),
}
_PRIVATE_SUFFIX = b"PRIVATE KEY"
# The old form of encryption hides the structure, so the label tells (RFC 1421 section 4.6.1.1).
_LEGACY_ENCRYPTED = {
    b"RSA PRIVATE KEY": "pkcs1-encrypted",
    b"EC PRIVATE KEY": "sec1-encrypted",
    b"DSA PRIVATE KEY": "dsa-encrypted",
}
_OPENSSH_MAGIC = b"openssh-key-v1\0"
# Nebula's and other tools' keys under labels of their own: so many bytes at least are a key.
_OTHER_KEY_BYTES_MIN = 32

_PUTTY = re.compile(rb"PuTTY-User-Key-File-[123]: [\w@.-]+\r?\nEncryption: ([\w-]+)\r?\n")
_SSH2 = re.compile(rb"---- BEGIN SSH2 (ENCRYPTED PRIVATE|PUBLIC) KEY ----[ \t]*\r?\n")
# 0x3f6ff9eb, with which ssh.com's private keys begin; it stands at the beginning of a line.
_SSH2_PRIVATE_MAGIC = b"\nP2/56"
_GNUPG = re.compile(
    rb"\((?:11:private|(21:protected-private))-key\("
    rb"|(?:[A-Z][\w-]*: [^\n]*\n)*Key: \((?:private|(protected-private))-key "
)
_SSH_TYPE = (
    rb"(?:ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9-]+@openssh\.com|[a-z0-9-]+-cert-v01@openssh\.com)"
)
# Options of authorized_keys may hold quoted spaces, names of known_hosts a marker before them (sshd(8)).
_SSH_LINE = re.compile(
    rb'(?:(?P<before>@?[^\s"#](?:[^\s"]|"[^"\n]*")*(?:[ \t]+[^\s"]+)?)[ \t]+)??(?P<type>'
    + _SSH_TYPE
    + rb")[ \t]+(?P<key>AAAA[A-Za-z0-9+/]{16,})"
)
# What openssl writes before the block with -text, and the only explanation that can be longer than 4 KiB.
_PRINTED = re.compile(
    rb"(?:Certificate:|Certificate Request:|Certificate Revocation List \(CRL\):)\r?\n {4}(?:Data:|Version )"
    rb"|(?:RSA |EC )?Private-Key: \(\d+ bit|(?:DH|DSA)[ -]Parameters: \(\d+ bit"
)


def kinds(text: bytes, length: int) -> list[str]:
    """Kinds of what stands in a text, in its order, each once.

    Args:
        text: the file, or its beginning.
        length: bytes in the file.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    start = len(text) - len(text.lstrip(_SPACE))
    found = list(dict.fromkeys(_blocks(text, start, length)))
    if found:
        return found
    one = _whole(text[start:]) or _ssh_line(text)
    return [one] if one else []


def goes_on(text: bytes) -> bool:
    """Whether what matters may stand behind the beginning of a file.

    Blocks follow one another, the key behind its chain, and openssl may print a page before the first.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
    return bool(_PRINTED.match(text)) or any(marker[2] == b"BEGIN" for marker in _MARKER.finditer(text))


def _blocks(text: bytes, start: int, length: int) -> Iterator[str]:
    markers = list(_MARKER.finditer(text))
    for opening, closing in itertools.zip_longest(markers, markers[1:]):
        # An indented block is part of another format (YAML); only the first thing in a file may be indented.
        if opening[2] != b"BEGIN" or (opening[1] and opening.start() > start):
            continue
        is_whole = closing is not None
        if is_whole and (closing[2] != b"END" or closing[3] != opening[3]):
            continue
        body = text[opening.end() : closing.start() if is_whole else len(text)]
        kind = _block(opening[3], body, length, is_whole=is_whole)
        if kind is not None:
            yield kind


def _block(label: bytes, body: bytes, length: int, *, is_whole: bool) -> str | None:
    headers = _HEADERS.match(body)
    data = _decoded(body[headers.end() :] if headers else body, is_whole=is_whole)
    if not data:
        return None
    if label.startswith(b"PGP "):
        return _armored(label, data, length)
    if label.endswith(_PRIVATE_SUFFIX):
        return _private(label, data, length, headers[0] if headers else b"", is_whole=is_whole)
    if label == b"EC PARAMETERS":
        # A named curve is an identifier, another a sequence (RFC 5480 section 2.1.1).
        return "ec-parameters" if data[0] in (0x06, 0x30) else None
    allowed, fixed = _LABELS.get(label, (frozenset[str](), None))
    name = _structure(data, length, is_whole=is_whole, may_end_early=fixed == "certificate-trusted")
    return (fixed or name) if name in allowed else None


def _decoded(body: bytes, *, is_whole: bool) -> bytes:
    """What base64 means; empty where it is none. Of a cut block, as much as is here."""
    if is_whole:
        body = _ARMOR_CHECKSUM.sub(b"", body)
    body = body.translate(None, _SPACE)
    if not is_whole:
        body = body[: len(body) // 4 * 4]
    if not _BASE64.fullmatch(body):
        return b""
    try:
        data = binascii.a2b_base64(body, strict_mode=True)
    except binascii.Error:
        return b""
    return data if is_whole or len(data) >= _SHOWN_BYTES_MIN else b""


def _structure(data: bytes, length: int, *, is_whole: bool, may_end_early: bool = False) -> str | None:
    """The structure that a block holds, if its length is the block's."""
    found = structure(data, len(data) if is_whole else length)
    if found is None:
        return None
    name, end = found
    # What follows a trusted certificate says what it is trusted for (x509(1), -trustout).
    fits = end >= len(data) or may_end_early
    return name if fits else None


def _private(label: bytes, data: bytes, length: int, headers: bytes, *, is_whole: bool) -> str | None:
    if label == b"OPENSSH PRIVATE KEY":
        # PROTOCOL.key of OpenSSH: the magic, then the cipher's name with its length.
        after = data.removeprefix(_OPENSSH_MAGIC)
        if len(after) == len(data):
            return None
        return "openssh" if after.startswith(b"\0\0\0\4none") else "openssh-encrypted"
    if b"ENCRYPTED" in headers:
        return _LEGACY_ENCRYPTED.get(label, "pem-encrypted")
    name = _structure(data, length, is_whole=is_whole)
    if name in _PRIVATE:
        return name
    known = {b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", *_LEGACY_ENCRYPTED}
    return "pem-private" if label not in known and is_whole and len(data) >= _OTHER_KEY_BYTES_MIN else None


def _armored(label: bytes, data: bytes, length: int) -> str | None:
    found = packets(data, max(length, len(data)))
    promised = {b"PGP PRIVATE KEY BLOCK": "openpgp-private", b"PGP PUBLIC KEY BLOCK": "openpgp-public"}
    return found if found == promised.get(label) else None


def _whole(text: bytes) -> str | None:
    """A form that a file has as a whole; `text` begins with its first visible byte."""
    if match := _PUTTY.match(text):
        return "putty" if match[1] == b"none" else "putty-encrypted"
    if match := _SSH2.match(text):
        is_private = match[1] != b"PUBLIC"
        fits = (_SSH2_PRIVATE_MAGIC if is_private else b"\nAAAA") in text
        # Its marker says ENCRYPTED also where it is not.
        return ("ssh2" if is_private else "ssh2-public") if fits else None
    if match := _GNUPG.match(text):
        return "gnupg-encrypted" if match[1] or match[2] else "gnupg"
    return None


def _stripped(line: bytes) -> bytes:
    return line.strip(_SPACE)


def _ssh_line(text: bytes) -> str | None:
    """Public keys one to a line: .pub, authorized_keys, known_hosts. The first line that says anything."""
    for line in map(_stripped, text.split(b"\n")):
        if not line or line.startswith(b"#"):
            continue
        match = _SSH_LINE.match(line)
        if match is None:
            return None
        # The key begins with its own type's name and the length of it (RFC 4253 section 6.6).
        name = match["type"]
        want = len(name).to_bytes(4, "big") + name
        key = match["key"][: (len(want) + 2) // 3 * 4]
        if len(key) % 4 or not binascii.a2b_base64(key).startswith(want):
            return None
        if b"-cert-v01@" in name:
            return "openssh-certificate"
        before = match["before"]
        # Options have a `=` or are words of sshd(8); a host is anything else.
        is_host = before and b"=" not in before and not _OPTION.match(before)
        return "known-hosts" if is_host else "openssh-public"
    return None


_OPTION = re.compile(
    rb"(?:agent|cert|no-|port|pty|restrict|user-rc|verify-required|X11|x11)[\w,-]*$", re.IGNORECASE
)
