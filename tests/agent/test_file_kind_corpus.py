# SPDX-License-Identifier: Apache-2.0
"""The test vectors of pyca/cryptography: 2,500 files of every form, none of them made by us.

Each file is recognised as what its folder and suffix say, or stands in a list here with the reason why not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest

from agent.readers.file_kind import read_kind

CORPUS = Path(next(iter(cryptography_vectors.__path__)))

# Numbers for algorithms and the code around them: no file of keys.
NO_KEYS = re.compile(r".*\.(?:rsp|txt|py|pyc|json|fax|input|sh|typed|schema|ldif)|(?:.*/)?[^.]*")
# What is none of the kinds, or is broken on purpose, and why.
NOTHING = {
    r"asymmetric/DSA/custom/nilpotent\.pem": "numbers of 160 bits are nobody's key",
    r"asymmetric/EC/truncated-private-key\.der": "a private key of one byte",
    r"asymmetric/PKCS8/bad-encryption-oid\.pem": "encrypted by nothing that is a password's scheme",
    r"asymmetric/Traditional_OpenSSL_Serialization/.*-wrong-version\.pem": "no such version; openssl refuses",
    r"asymmetric/public/PKCS1/dsa\.pub\.pem": "a label that OpenSSL gave up before 1.0",
    r"x509/PKITS_data/certpairs/.*\.cp": "two certificates for a directory service, no file of one",
    r"x509/PKITS_data/smime/.*\.eml": "mail",
    r"x509/cryptography-scts-tbs-precert\.der": "what was to be signed, without its signature",
    r"x509/ocsp/.*\.der": "questions and answers about certificates",
}


def files() -> Iterator[tuple[str, Path]]:
    """All that may hold a key, by their names in the corpus."""
    for path in sorted(CORPUS.rglob("*")):
        name = str(path.relative_to(CORPUS))
        if path.is_file() and not NO_KEYS.fullmatch(name):
            yield name, path


def kind(path: Path) -> str | None:
    """What `read_kind` says of it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_kind(fd, str(path)).kind
    finally:
        os.close(fd)


def test_every_file_is_recognised_or_there_is_a_reason() -> None:
    """Whatever is missed here would be missed on a host."""
    missed = {name for name, path in files() if kind(path) is None}

    assert {name for name in missed if not any(re.fullmatch(known, name) for known in NOTHING)} == set()


@pytest.mark.parametrize("known", NOTHING)
def test_every_reason_is_needed(known: str) -> None:
    """A list of exceptions that nothing needs any more hides the next miss."""
    names = {name for name, path in files() if re.fullmatch(known, name) and kind(path) is None}

    assert names


def test_nothing_that_holds_no_key_is_taken_for_one() -> None:
    """Vectors are full of hexadecimal keys, base64 and ASN.1 in text; one file has whole PEM blocks in it."""
    taken = {
        str(path.relative_to(CORPUS)): found
        for path in CORPUS.rglob("*")
        if path.is_file()
        and NO_KEYS.fullmatch(str(path.relative_to(CORPUS)))
        and (found := kind(path)) is not None
    }

    assert taken == {"asymmetric/ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt": "pkcs8+public-key"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"pkcs12/.*\.p12", {"pkcs12"}),
        (r"x509/PKITS_data/pkcs12/.*\.p12", {"pkcs12"}),
        (r"x509/PKITS_data/certs/.*\.crt", {"certificate"}),
        (r"x509/PKITS_data/crls/.*\.crl", {"crl"}),
        (r"x509/requests/.*", {"certificate-request"}),
        (r"asymmetric/PKCS8/(?!.*pub).*\.pem", {"pkcs8", "pkcs8-encrypted", None}),
        (r"asymmetric/OpenSSH/certs/.*\.pub", {"openssh-certificate"}),
        (r"asymmetric/OpenSSH/[^/]*\.key", {"openssh", "openssh-encrypted"}),
        (r"asymmetric/OpenSSH/[^/]*nopsw\.key\.pub", {"openssh-public"}),
    ],
)
def test_a_folder_of_one_kind_holds_that_kind(pattern: str, expected: set[str | None]) -> None:
    """What the corpus's own order says."""
    kinds = [kind(path) for name, path in files() if re.fullmatch(pattern, name)]

    assert kinds
    assert set(kinds) <= expected
