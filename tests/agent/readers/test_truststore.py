# SPDX-License-Identifier: Apache-2.0
"""What a distribution would put into its bundles: against p11-kit's own `trust extract`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent.model.asset import Certificate
from agent.readers import pem, truststore
from agent.readers.x509 import parse_certificate
from tests.agent import openssl
from tests.agent.openssl import Made

SERVER, EMAIL, CODE = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.3"
PURPOSES = {SERVER: "server-auth", EMAIL: "email", CODE: "code-signing"}
# The DER of id-kp-serverAuth, id-kp-emailProtection, and of the head of an extended key usage extension.
OIDS = {SERVER: "06082b06010505070301", EMAIL: "06082b06010505070304"}
EXTENSION = "0603551d25"


def stapled(made: Made, *purposes: str) -> bytes:
    """An object that says what the certificates of a key are for, as p11-kit writes it."""
    usages = bytes.fromhex("".join(OIDS[purpose] for purpose in purposes))
    sequence = bytes([0x30, len(usages)]) + usages
    value = bytes.fromhex(EXTENSION) + bytes([0x04, len(sequence)]) + sequence
    written = "".join(f"%{byte:02X}" for byte in bytes([0x30, len(value)]) + value)
    key = openssl.run("x509", "-noout", "-pubkey", given=made.certificate)
    head = "[p11-kit-object-v1]\nclass: x-certificate-extension\nobject-id: 2.5.29.37\n"
    return head.encode() + f'value: "{written}"\n'.encode() + key + b"\n"


def object_of(made: Made, attributes: bytes) -> bytes:
    """A certificate's own object."""
    return b'[p11-kit-object-v1]\nlabel: "one"\n' + attributes + b"\n" + made.certificate + b"\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, str]]:
    """A file in p11-kit's format, and digests by what the certificates are in it."""
    folder = tmp_path_factory.mktemp("source")
    usage = ("-addext", "extendedKeyUsage=codeSigning")
    kinds = {
        "for-all": (openssl.make(folder, "/CN=for all"), b"trusted: true\nnss-mozilla-ca-policy: true"),
        "distrusted": (openssl.make(folder, "/CN=distrusted"), b"x-distrusted: true"),
        "both-ways": (openssl.make(folder, "/CN=both ways"), b"trusted: true\nx-distrusted: true"),
        "untrusted": (openssl.make(folder, "/CN=untrusted"), b"trusted: false"),
        "email": (openssl.make(folder, "/CN=email"), b"trusted: true"),
        "both": (openssl.make(folder, "/CN=both"), b"trusted: true\r"),
        "own-code": (openssl.make(folder, "/CN=own code", *usage), b"trusted: true"),
        "overruled": (openssl.make(folder, "/CN=overruled", *usage), b"trusted: true"),
    }
    page = b"# a comment\n" + b"".join(object_of(made, attributes) for made, attributes in kinds.values())
    page += stapled(kinds["email"][0], EMAIL) + stapled(kinds["both"][0], SERVER, EMAIL)
    page += stapled(kinds["overruled"][0], SERVER)
    return page, {kind: openssl.read(made.der).sha256 for kind, (made, _) in kinds.items()}


@pytest.mark.parametrize(
    ("purpose", "kinds"),
    [
        (SERVER, {"for-all", "both", "overruled"}),
        (EMAIL, {"for-all", "email", "both"}),
        (CODE, {"for-all", "own-code"}),
        (None, {"for-all", "distrusted", "both-ways", "untrusted", "email", "both", "own-code", "overruled"}),
    ],
)
def test_a_source_is_read_by_purpose(
    purpose: str | None, kinds: set[str], source: tuple[bytes, dict[str, str]]
) -> None:
    """An object of its own overrules what the certificate says of itself."""
    page, digests = source

    assert truststore.shipped_by_p11_kit(page, purpose) == {digests[kind] for kind in kinds}


@pytest.mark.root
def test_trust_extract_makes_the_same_of_it(source: tuple[bytes, dict[str, str]], tmp_path: Path) -> None:
    """The tool behind update-ca-trust, in a mount namespace where its source is ours."""
    if shutil.which("trust") is None:
        pytest.skip("trust(1) of p11-kit is not there")
    where = Path("/etc/ssl/certs/ca-certificates.crt")
    library = next(Path("/usr/lib").rglob("p11-kit-trust.so"), None)
    if library is None or str(where).encode() not in library.read_bytes():
        pytest.skip(f"p11-kit does not take its roots from {where} here")
    # Debian's p11-kit takes the file for a directory of anchors, in which all are trusted that are not
    # distrusted.
    page = source[0].replace(b"\ntrusted: false\n", b"\ntrusted: true\n")
    (tmp_path / "source").write_bytes(page)
    extract = "trust extract --format=pem-bundle --filter=ca-anchors --overwrite --purpose"
    script = f"mount --bind {tmp_path}/source {where} && " + " && ".join(
        f"{extract} {name} {tmp_path}/{name}.pem" for name in PURPOSES.values()
    )

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )

    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    for purpose, name in PURPOSES.items():
        made = (tmp_path / f"{name}.pem").read_bytes()
        theirs = {
            parse_certificate(block.data).sha256
            for block in pem.blocks(made, ("CERTIFICATE",))
            if block.data is not None
        }
        assert theirs == truststore.shipped_by_p11_kit(page, purpose)


@pytest.mark.parametrize(
    "damage",
    [b"", b"[p11-kit-object-v1]", b"[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\n", b"\xff\x00"],
)
def test_a_damaged_source_ships_what_is_left_of_it(
    damage: bytes, source: tuple[bytes, dict[str, str]]
) -> None:
    """A broken object costs itself."""
    page, digests = source

    shipped = truststore.shipped_by_p11_kit(damage + b"\n" + page, SERVER)

    assert digests["for-all"] in shipped
    assert truststore.shipped_by_p11_kit(damage, None) == frozenset()


def test_a_value_that_is_no_extension_restricts_nothing(tmp_path: Path) -> None:
    """Percent signs that lead nowhere, DER that is none."""
    made = openssl.make(tmp_path, "/CN=one")
    whole = object_of(made, b"trusted: true")
    for value in (b'"%"', b'"%30%03"', b'""', b"", b'"%30%00"', b'"%ZZ"'):
        staple = stapled(made, EMAIL)
        broken = (
            staple[: staple.index(b"value:")] + b"value: " + value + staple[staple.index(b"\n-----BEGIN") :]
        )

        assert len(truststore.shipped_by_p11_kit(whole + broken, SERVER)) == 1


def test_twenty_roots_make_a_trust_store(tmp_path: Path) -> None:
    """A chain is none, nor are twenty servers' certificates; roots of version 1 count."""
    root = parse_certificate(openssl.make(tmp_path, "/CN=root").der)
    assert root.is_ca
    fields = {field: getattr(root, field) for field in root.__struct_fields__}
    old = Certificate(**{**fields, "is_ca": False, "version": 1})
    server = Certificate(**{**fields, "is_ca": False})

    assert truststore.is_store("/etc/x", [root] * truststore.MEMBERS_MIN)
    assert truststore.is_store("/etc/x", [old] * truststore.MEMBERS_MIN)
    assert not truststore.is_store("/etc/x", [root] * (truststore.MEMBERS_MIN - 1))
    assert not truststore.is_store("/etc/x", [server] * 100)
    assert truststore.is_store("/etc/ssl/certs/ca-certificates.crt", [root])
