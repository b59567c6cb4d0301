# SPDX-License-Identifier: Apache-2.0
"""What kind of cryptographic file is it? Told by its first bytes; a name is only a hint.

`file_type` is one of four words, which users' scripts compare with; `kind` is the finer word
beside it. How the kinds fall under the four words:

certificate   X.509 certificates, one or many, and PKCS #7 that carries nothing else: an envelope with no key.
private_key   the private half of any key, encrypted or not, X.509's or SSH's or OpenPGP's. Who reads such a
              file holds the key or is a password away from it; that is what the word is asked for.
keystore      containers with a password of their own for certificates and keys: PKCS #12 and Java's. Whether
              there is a key in it cannot be told from outside, and often not without the password.
unknown       all else. Requests, revocation lists, public keys and parameters are cryptographic files, but no
              certificate: who lists certificates to renew, or alerts on keys that are read, must not get
              them. `kind` says what they are; None says that nothing was recognised.

A file that holds several has the word of the most sensitive, and a kind that names them all, that one first:
`pkcs8+certificate`. A public key that a user may log in with (authorized_keys) is no private key.
"""

from __future__ import annotations

import os
import re
from typing import Literal

from msgspec import Struct

from agent import errors
from agent.readers import der_kind, openpgp_kind, text_kind

FileType = Literal["certificate", "private_key", "keystore", "unknown"]

# Every form we know, but for text, shows within so much.
HEAD_BYTES = 4096
# Text goes on: a key stands behind its chain (HAProxy), and openssl prints up to 12 KiB before the block of a
# long key (Easy-RSA). 64 KiB hold forty certificates; of a longer file, what stands behind them is not seen.
TEXT_BYTES_MAX = 64 * 1024

# What crypto-tracer takes for files of cryptography by name; in any case of letters, as old disks have them.
SUFFIXES = (".pem", ".crt", ".cer", ".key", ".p12", ".pfx", ".jks", ".keystore")


class FileKind(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A kind of file.

    Attributes:
        file_type: one of four words.
        kind: the finer word, for example `pkcs8-encrypted`; None where nothing was recognised.
    """

    file_type: FileType
    kind: str | None = None


UNKNOWN = FileKind(file_type="unknown")

# The most sensitive first: the order in which a file with several is called.
_TYPES: tuple[FileType, ...] = ("private_key", "keystore", "certificate", "unknown")
_TYPE_BY_KIND: dict[str, FileType] = {
    **dict.fromkeys(
        (
            "pkcs8", "pkcs8-encrypted", "pkcs1", "pkcs1-encrypted", "sec1", "sec1-encrypted", "dsa",
            "dsa-encrypted", "tss2", "pem-private", "pem-encrypted", "openssh", "openssh-encrypted", "ssh1",
            "ssh2", "putty", "putty-encrypted", "openpgp-private", "gnupg", "gnupg-encrypted",
        ),
        "private_key",
    ),
    **dict.fromkeys(("pkcs12", "jks", "jceks", "bks", "uber", "bcfks"), "keystore"),
    **dict.fromkeys(("certificate", "certificate-trusted", "pkcs7-certificates"), "certificate"),
}  # fmt: skip

# Sun's JavaKeyStore and its JCE brother: magic and version 1 or 2.
_JAVA = {b"\xfe\xed\xfe\xed": "jks", b"\xce\xce\xce\xce": "jceks"}
# Bouncy Castle: version 1 or 2, twenty bytes of salt with their length before them, the number of iterations,
# which its writer draws from 1024 to 2047, and the type of the first entry. In UBER all of that is encrypted.
_BOUNCY = re.compile(rb"\0\0\0([\1\2])\0\0\0\x14.{20}\0\0[\4-\7].(.)", re.DOTALL)
_BOUNCY_ENTRY_MAX = 4
_SSH1 = b"SSH PRIVATE KEY FILE FORMAT 1.1\n\0"
# GnuPG's keybox has its magic behind the length and type of its first blob.
_KEYBOX_MAGIC, _KEYBOX_AT = b"KBXf", 8
# Bytes that an editor may have put behind a binary structure: a line end.
_TAIL_BYTES_MAX = 2

# ssh-keygen(1): the names it proposes, with whatever a user wrote behind; ssh_host_* are the server's.
_SSH_NAME = re.compile(
    r"(?:id_(?:rsa|dsa|ecdsa|ed25519|xmss)(?:_sk)?(?:[._-].*)?|ssh_host_.+_key)", re.DOTALL
)
_HINTS: dict[str, FileType] = {
    # A .pem may be anything: its content would tell, its name does not.
    ".pem": "unknown",
    ".crt": "certificate",
    ".cer": "certificate",
    ".key": "private_key",
    **dict.fromkeys((".p12", ".pfx", ".jks", ".keystore"), "keystore"),
}


def classify(head: bytes, size: int) -> FileKind:
    """The kind of a file, from its beginning. Pure, and total: any bytes have an answer.

    Args:
        head: the first HEAD_BYTES or more, or the whole of a shorter file.
        size: bytes in the file.
    """
    size = max(size, len(head))
    if name := _binary(head, size):
        return _kind_of([name])
    # Text has no NUL. What has one and markers in it is a program, a database or a dump.
    if b"\0" in head:
        return UNKNOWN
    return _kind_of(text_kind.kinds(head, size))


def read_kind(fd: int, path: str) -> FileKind:
    """The kind of an open regular file; for `Host.parse`. It reads HEAD_BYTES, of a text that goes on more.

    Raises:
        HostError: the kernel or the disk refused.
    """
    try:
        # Where this runs the kernel is not asked what a descriptor is (see agent.parsing).
        size = os.lseek(fd, 0, os.SEEK_END)
        head = os.pread(fd, HEAD_BYTES, 0)
        if size > len(head) == HEAD_BYTES and b"\0" not in head and text_kind.goes_on(head):
            head = os.pread(fd, TEXT_BYTES_MAX, 0)
    except OSError as error:
        raise errors.host_error(error, path) from error
    return classify(head, size)


def hinted(path: str) -> FileKind | None:
    """What a name alone promises, for a file that cannot be read; None where it says nothing.

    Args:
        path: any form of it, without ` (deleted)`.
    """
    name = path.rpartition("/")[2]
    if _SSH_NAME.fullmatch(name) and not name.endswith((".pub", ".txt")):
        return FileKind(file_type="private_key")
    _, dot, suffix = name.lower().rpartition(".")
    file_type = _HINTS.get(dot + suffix)
    return None if file_type is None else FileKind(file_type=file_type)


def is_listed(path: str, kind: FileKind) -> bool:
    """Whether a file is one of those that snapshots and events tell of.

    Its content is a certificate, a private key or a keystore, or it is called like one, as users' scripts
    expect.
    """
    return kind.file_type != "unknown" or path.lower().endswith(SUFFIXES)


def _binary(head: bytes, size: int) -> str | None:
    if head[:1] == b"\x30":
        found = der_kind.structure(head, size)
        return found[0] if found and size - found[1] <= _TAIL_BYTES_MAX else None
    if head.startswith(_SSH1):
        return "ssh1"
    if head.startswith(_KEYBOX_MAGIC, _KEYBOX_AT):
        return "keybox"
    return _java(head) or openpgp_kind.packets(head, size)


def _java(head: bytes) -> str | None:
    if name := _JAVA.get(head[:4]):
        return name if head[4:8] in (b"\0\0\0\1", b"\0\0\0\2") else None
    match = _BOUNCY.match(head)
    if match is None:
        return None
    if match[2][0] <= _BOUNCY_ENTRY_MAX:
        return "bks"
    return "uber" if match[1] == b"\1" else None


def _kind_of(names: list[str]) -> FileKind:
    if not names:
        return UNKNOWN
    types = {name: _TYPE_BY_KIND.get(name, "unknown") for name in names}
    order = sorted(names, key=lambda name: _TYPES.index(types[name]))
    return FileKind(file_type=types[order[0]], kind="+".join(order))
