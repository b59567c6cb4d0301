# SPDX-License-Identifier: Apache-2.0
"""Certificates: our reading against openssl's, and the oddities of real ones."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import limits
from agent.model.asset import Certificate
from agent.model.canonical import encode
from agent.readers import der, pem
from agent.readers.x509 import CERTIFICATE_BYTES_MAX, MalformedCertificateError, parse_certificate
from tests.agent import openssl

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# openssl spells two schemes otherwise than the RFCs do.
OPENSSL_SPELLS = {"rsassaPss": "RSASSA-PSS", "ED25519": "Ed25519", "ED448": "Ed448"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """DER of a certificate whose parts the tests below damage one at a time."""
    folder = tmp_path_factory.mktemp("sample")
    return openssl.make(
        folder, "/C=DE/CN=sample-name", "-set_serial", "0x11223344",
        "-addext", "subjectAltName=DNS:sample-host.example",
    ).der  # fmt: skip


def agrees(certificate: Certificate, theirs: openssl.Read) -> None:
    """Assert that two readings of one certificate are the same."""
    assert certificate.sha256 == theirs.sha256
    assert int(certificate.serial, 16) == theirs.serial
    assert (certificate.subject, certificate.issuer) == (theirs.subject, theirs.issuer)
    assert (certificate.not_before, certificate.not_after) == (theirs.not_before, theirs.not_after)
    assert certificate.signature.name == OPENSSL_SPELLS.get(theirs.signature, theirs.signature)
    if certificate.key.bits is not None and not (certificate.key.curve or "").startswith("sect"):
        # Of binary curves openssl tells the size of the order, a bit less than that of the field.
        assert certificate.key.bits == theirs.key_bits


@pytest.mark.slow
def test_every_public_root_reads_as_openssl_reads_it() -> None:
    """Fingerprint, serial, names, dates, signature and key size of whatever this machine trusts."""
    if not BUNDLE.exists():
        pytest.skip(f"{BUNDLE} is not there")
    roots = [block.data for block in pem.blocks(BUNDLE.read_bytes(), ("CERTIFICATE",))]
    assert len(roots) == BUNDLE.read_bytes().count(b"-----BEGIN CERTIFICATE-----") > 50

    for root in roots:
        assert root is not None
        agrees(parse_certificate(root), openssl.read(root))


Key = tuple[str, int | None, str | None]
# What `openssl req` is asked for, and the family, bits, curve and hash to be told.
KINDS: dict[str, tuple[str, tuple[str, ...], Key, str | None]] = {
    "rsa-1024-sha1": ("rsa:1024", ("-sha1",), ("RSA", 1024, None), "SHA-1"),
    "rsa-2048-pss": (
        "rsa:2048", ("-sha384", "-sigopt", "rsa_padding_mode:pss"), ("RSA", 2048, None), "SHA-384",
    ),
    "rsa-pss-key": ("rsa-pss", ("-pkeyopt", "rsa_keygen_bits:2048"), ("RSA", 2048, None), "SHA-256"),
    "ec-p384": (
        "ec", ("-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"), ("EC", 384, "secp384r1"), "SHA-384",
    ),
    "ec-explicit": ("ec", ("-pkeyopt", "ec_param_enc:explicit"), ("EC", 256, "secp256r1"), "SHA-256"),
    "ec-binary": ("ec", ("-pkeyopt", "ec_paramgen_curve:sect571r1"), ("EC", 571, "sect571r1"), "SHA-256"),
    "ec-tiny": ("ec", ("-pkeyopt", "ec_paramgen_curve:secp112r1"), ("EC", 112, "secp112r1"), "SHA-256"),
    "ed25519": ("ed25519", (), ("Ed25519", None, None), None),
    "ed448": ("ed448", (), ("Ed448", None, None), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_signatures_of_every_kind_are_named(kind: str, tmp_path: Path) -> None:
    """Family, size, curve and hash are what policies are about."""
    newkey, arguments, key, hash_name = KINDS[kind]
    made = openssl.make(tmp_path, "/CN=kinds", *arguments, newkey=newkey).der

    certificate = parse_certificate(made)

    agrees(certificate, openssl.read(made))
    assert (certificate.key.algorithm, certificate.key.bits, certificate.key.curve) == key
    assert certificate.signature.hash == hash_name


def test_the_key_is_known_by_its_public_half_alone(tmp_path: Path) -> None:
    """A private key on another host is found by the same identity, so it must be what others compute too."""
    made = openssl.make(tmp_path, "/CN=identity")
    spki = openssl.run("pkey", "-pubout", "-outform", "DER", given=made.key)

    digest = openssl.run("dgst", "-sha256", "-r", given=spki).split()[0].decode()

    assert parse_certificate(made.der).key.spki_sha256 == digest


def test_extensions_are_told_by_their_names(tmp_path: Path) -> None:
    """What the certificate may be used for, and for whom."""
    made = openssl.make(
        tmp_path, "/CN=extensions",
        "-addext", "subjectAltName=DNS:b.example,DNS:a.example,IP:192.0.2.1,IP:2001:db8::1,"
        "email:x@example.org,"
        "URI:https://example.org/,RID:1.2.3.4,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:someone@example.org,dirName:dn",
        "-addext", "keyUsage=critical,digitalSignature,keyAgreement,encipherOnly",
        "-addext", "extendedKeyUsage=serverAuth,1.2.3.4.5,anyExtendedKeyUsage",
        "-config", str(_config(tmp_path)),
    ).der  # fmt: skip

    certificate = parse_certificate(made)

    assert certificate.names == (
        "DNS:a.example", "DNS:b.example", "DirName:CN=inner,C=UK", "IP:192.0.2.1", "IP:2001:db8::1",
        "RID:1.2.3.4", "URI:https://example.org/", "email:x@example.org",
        "otherName:1.3.6.1.4.1.311.20.2.3",
    )  # fmt: skip
    assert certificate.key_usage == ("digitalSignature", "encipherOnly", "keyAgreement")
    assert certificate.extended_key_usage == ("1.2.3.4.5", "anyExtendedKeyUsage", "serverAuth")
    assert certificate.is_ca
    assert certificate.self_issued
    assert certificate.subject_key_id == certificate.authority_key_id
    assert re.fullmatch("[0-9a-f]{40}", certificate.subject_key_id or "")


def _config(folder: Path) -> Path:
    path = folder / "openssl.cnf"
    path.write_text(
        "[req]\ndistinguished_name=d\nx509_extensions=v3\n[d]\n[dn]\nC=UK\nCN=inner\n"
        "[v3]\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\nbasicConstraints=critical,CA:true\n"
    )
    return path


def test_a_certificate_without_extensions_is_of_version_1(tmp_path: Path) -> None:
    """There are roots of 1996 in use; they are no CA by their own word."""
    made = openssl.make(tmp_path, "/CN=old")
    request = openssl.run("req", "-new", "-key", "/dev/stdin", "-subj", "/CN=old", given=made.key)
    (tmp_path / "key").write_bytes(made.key)
    old = openssl.run("x509", "-req", "-signkey", tmp_path / "key", "-outform", "DER", given=request)

    certificate = parse_certificate(old)

    assert (certificate.version, certificate.is_ca, certificate.names) == (1, False, ())


def test_an_expired_certificate_says_when(sample: bytes) -> None:
    """Whether that matters is for the reports to say."""
    begin, end = re.findall(rb"\x17\x0d(\d{12}Z)", sample)
    expired = sample.replace(begin, b"490101000000Z").replace(end, b"500101000000Z")

    certificate = parse_certificate(expired)

    agrees(certificate, openssl.read(expired))
    # UTCTime: 49 is 2049 and 50 is 1950 (RFC 5280 section 4.1.2.5.1).
    assert certificate.not_before == "2049-01-01T00:00:00.000000Z"
    assert certificate.not_after == "1950-01-01T00:00:00.000000Z"


EC_KEY = bytes.fromhex("06072a8648ce3d0201")
P256 = bytes.fromhex("06082a8648ce3d030107")
ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
# What is damaged, by what, and what is then said instead, of the certificate, its key or its signature.
ODDITIES: list[tuple[bytes, bytes, dict[str, object]]] = [
    (b"\x02\x04\x11\x22\x33\x44", b"\x02\x04\x91\x22\x33\x44", {"serial": "-6eddccbc"}),
    (b"sample-name", b"sample\xff\xfeame", {"subject": "CN=#0c0b73616d706c65fffe616d65,C=DE"}),
    (b"sample-name", b"sample\nname", {"subject": "CN=sample\nname,C=DE"}),
    (b"sample-name", b'#a,+"\\<>;\x00 ', {"subject": r"CN=\#a\,\+\"\\\<\>\;\00\ ,C=DE"}),
    (b"\x13\x02DE", b"\x13\x02D\xc3", {"subject": "CN=sample-name,C=#130244c3"}),
    (b"\x13\x02DE", b"\x13\x02\xc3\xa9", {"subject": "CN=sample-name,C=\u00e9"}),
    (b"\x13\x02DE", b"\x09\x02DE", {"subject": "CN=sample-name,C=#09024445"}),
    (b"\x06\x03U\x04\x06", b"\x06\x03U\x04\x7e", {"subject": "CN=sample-name,2.5.4.126=#13024445"}),
    (b"sample-host", b"sample\xffhost", {"names": (), "is_ca": True}),
    (P256, P256[:-1] + b"\x77", {"algorithm": "1.2.840.10045.2.1", "bits": None}),
    (EC_KEY, EC_KEY[:-1] + b"\x71", {"algorithm": "1.2.840.10045.2.113", "bits": None}),
    (ECDSA_SHA256, ECDSA_SHA256[:-1] + b"\x72", {"name": None, "hash": None}),
    (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", {"version": 2}),
]


@pytest.mark.parametrize(("old", "new", "told"), ODDITIES)
def test_what_is_odd_costs_its_field_and_not_the_certificate(
    old: bytes, new: bytes, told: dict[str, object], sample: bytes
) -> None:
    """The library refuses most of these whole. They are in the field, and servers present them."""
    assert old in sample

    certificate = parse_certificate(sample.replace(old, new))

    for field, value in told.items():
        owner = next(
            part for part in (certificate, certificate.key, certificate.signature) if hasattr(part, field)
        )
        assert getattr(owner, field) == value
    assert certificate.not_after > certificate.not_before
    assert encode(certificate)


def test_a_post_quantum_key_is_known_by_its_oid(sample: bytes) -> None:
    """No library here decodes ML-DSA (RFC 9881); the host may hold such certificates all the same."""
    ml_dsa = bytes.fromhex("06096086480165030403") + b"\x12"
    algorithm = der.encode(der.SEQUENCE, ml_dsa)
    tbs = der.read(sample).children()[0].children()
    fields = [field.encoded for field in tbs]
    fields[2] = algorithm
    fields[6] = der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, bytes(1953)))
    made = der.encode(
        der.SEQUENCE, der.encode(der.SEQUENCE, *fields), algorithm, der.encode(der.BIT_STRING, bytes(3310))
    )

    certificate = parse_certificate(made)

    assert certificate.key.algorithm == certificate.signature.oid == "2.16.840.1.101.3.4.3.18"
    assert certificate.signature.name == "ML-DSA-65"


def test_what_is_appended_is_no_part_of_the_certificate(sample: bytes) -> None:
    """OpenSSL appends what it trusts a certificate for; the certificate is still the same one."""
    trusted = openssl.run("x509", "-inform", "DER", "-addtrust", "serverAuth", "-trustout", given=sample)
    (block,) = pem.blocks(trusted, ("TRUSTED CERTIFICATE",))
    assert block.data is not None
    assert len(block.data) > len(sample)

    assert parse_certificate(block.data) == parse_certificate(sample)


REFUSED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: whole[:0],
    "cut": lambda whole: whole[:-5],
    "month-13": lambda whole: re.sub(rb"(\x17\x0d\d\d)\d\d", rb"\g<1>13", whole),
    "no-date": lambda whole: re.sub(rb"(\x17\x0d\d{12})Z", rb"\g<1>X", whole),
    "its-key-alone": lambda whole: der.read(whole).children()[0].children()[6].encoded,
    "too-large": lambda whole: der.encode(der.SEQUENCE, whole * (CERTIFICATE_BYTES_MAX // len(whole))),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_no_certificate_is_refused(how: str, sample: bytes) -> None:
    """With one error, which quotes no byte of what may be a secret."""
    with pytest.raises(MalformedCertificateError) as caught:
        parse_certificate(REFUSED[how](sample))

    assert "sample" not in str(caught.value)


def test_a_private_key_is_not_taken_for_a_certificate(tmp_path: Path) -> None:
    """PKCS #8, SEC 1 and PKCS #1 are framed much alike."""
    for newkey in ("ec", "rsa:1024", "ed25519"):
        key = openssl.make(tmp_path, "/CN=x", newkey=newkey).key
        for form in ((), ("-traditional",) if newkey != "ed25519" else ()):
            with pytest.raises(MalformedCertificateError):
                parse_certificate(openssl.run("pkey", "-outform", "DER", *form, given=key))


@given(st.data())
def test_damage_is_an_error_of_ours_or_a_certificate(sample_of_all: bytes, data: st.DataObject) -> None:
    """Hostile bytes raise nothing else, warn of nothing, and what comes out fits into a document."""
    damaged = bytearray(sample_of_all)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            certificate = parse_certificate(bytes(damaged))
        except MalformedCertificateError:
            return
    assert len(encode(certificate)) < 10 * limits.STRING_CHARS_MAX


@pytest.fixture(scope="module")
def sample_of_all(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate with every extension that is read."""
    return openssl.make(
        tmp_path_factory.mktemp("all"), "/C=DE/O=Example/CN=all", "-addext", "keyUsage=digitalSignature",
        "-addext", "subjectAltName=DNS:a.example,IP:192.0.2.1", "-addext", "extendedKeyUsage=serverAuth",
    ).der  # fmt: skip


def test_a_name_too_long_for_a_document_is_cut_and_told_by_its_digest(sample: bytes) -> None:
    """A certificate of 60 KiB may be all name, and the name would be in its key too."""
    tbs = [field.encoded for field in der.read(sample).children()[0].children()]
    value = der.encode(
        der.SET, der.encode(der.SEQUENCE, bytes.fromhex("0603550403"), der.encode(0x0C, b"," * 50_000))
    )
    tbs[5] = der.encode(der.SEQUENCE, value)
    rest = [part.encoded for part in der.read(sample).children()[1:]]

    certificate = parse_certificate(der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *tbs), *rest))

    assert len(certificate.subject) < 300
    assert "SHA-256" in certificate.subject
