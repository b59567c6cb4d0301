# SPDX-License-Identifier: Apache-2.0
"""Signatures that somebody else verifies: OpenSSL, over a base that the test writes out by hand."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agent.model import canonical, wire
from agent.posting import signing
from agent.posting.identity import HostKey, ensure_key
from agent.secret import Secret
from agent.state import StateDirectory
from tests.agent.given import draft

CREATED_NS = 1_795_000_000_123_456_789


@pytest.fixture
def key(tmp_path: Path) -> Iterator[HostKey]:
    """A host's key; its file is in `tmp_path`/agent."""
    with StateDirectory(str(tmp_path / "agent")) as state:
        yield ensure_key(state)


def openssl_verifies(directory: Path, message: bytes, signature: bytes) -> bool:
    """Whether OpenSSL finds the signature to be that of the key in that state directory."""
    public, base, value = directory / "public.pem", directory / "base", directory / "signature"
    subprocess.run(
        ["openssl", "pkey", "-in", directory / "agent" / "host.key", "-pubout", "-out", public],
        check=True,
        capture_output=True,
    )
    base.write_bytes(message)
    value.write_bytes(signature)
    command = f"openssl pkeyutl -verify -pubin -inkey {public} -rawin -in {base} -sigfile {value}"
    return subprocess.run(command.split(), check=False, capture_output=True).returncode == 0


def test_a_manifests_signature_is_over_its_bytes_as_they_stand(key: HostKey, tmp_path: Path) -> None:
    """So that anyone with OpenSSL can verify an archived inventory years later."""
    manifest = canonical.encode(draft().manifest(7, key.host_id))

    signature = signing.sign_manifest(manifest, key)

    value = base64.b64decode(signature.value)
    assert openssl_verifies(tmp_path, manifest, value)
    assert not openssl_verifies(tmp_path, manifest + b" ", value)
    assert base64.b64decode(signature.public_key) == key.public_bytes
    assert signing.is_signed(manifest, signature)
    assert not signing.is_signed(manifest + b" ", signature)


@pytest.mark.parametrize("value", ["", "AAAA", "no base64 at all", "A" * 88])
def test_what_is_no_signature_is_not_one(key: HostKey, value: str) -> None:
    """Whatever a file on disk says."""
    import msgspec

    signature = msgspec.structs.replace(signing.sign_manifest(b"{}", key), value=value)

    assert not signing.is_signed(b"{}", signature)
    assert not signing.is_signed(b"{}", msgspec.structs.replace(signature, public_key=value))


def test_the_proof_of_an_enrolment_is_bound_to_its_token(key: HostKey, tmp_path: Path) -> None:
    """Over `enroll:` and the token, as the collector checks it."""
    proof = base64.b64decode(signing.enrolment_proof(Secret("cft_token-of-tests"), key))

    assert openssl_verifies(tmp_path, b"enroll:cft_token-of-tests", proof)
    assert not openssl_verifies(tmp_path, b"enroll:cft_token-of-others", proof)


def test_a_request_is_signed_over_method_path_and_digest(key: HostKey, tmp_path: Path) -> None:
    """The base of RFC 9421, section 2.5, written by hand; the digest of RFC 9530, of the bytes as sent."""
    # Given a request whose body is compressed
    digest = "sha256:" + "0" * 64
    body = b"\x1f\x8b not really gzip"
    request = httpx.Request("PUT", f"https://collector.example:8443/v1/parts/{digest}", content=body)
    # When it is signed
    signing.sign_request(request, key, CREATED_NS)
    # Then a verifier that knows nothing of our library agrees
    content_digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    assert request.headers["content-digest"] == content_digest
    match = re.fullmatch(r"cryptofleet=(\(.*\);.*)", request.headers["signature-input"])
    assert match is not None
    assert match[1].startswith('("@method" "@path" "content-digest");created=1795000000;')
    assert f';keyid="{key.host_id}"' in match[1]
    assert ';alg="ed25519"' in match[1]
    base = (
        f'"@method": PUT\n"@path": /v1/parts/{digest}\n"content-digest": {content_digest}\n'
        f'"@signature-params": {match[1]}'
    )
    value = re.fullmatch(r"cryptofleet=:([A-Za-z0-9+/=]+):", request.headers["signature"])
    assert value is not None
    assert openssl_verifies(tmp_path, base.encode(), base64.b64decode(value[1]))


def test_the_same_request_is_signed_the_same(key: HostKey) -> None:
    """Ed25519 draws no random numbers, and the clock is an argument."""
    signed = []
    for _ in range(2):
        request = httpx.Request("PUT", "https://c.example/v1/hosts/h-1/state", content=b"{}")
        signing.sign_request(request, key, CREATED_NS)
        signed.append(sorted(request.headers.items()))

    assert signed[0] == signed[1]


def test_the_three_kinds_of_signed_text_cannot_be_taken_for_one_another(key: HostKey) -> None:
    """One key signs them all, so their first bytes must differ."""
    manifest = canonical.encode(draft().manifest(1, key.host_id))

    assert manifest[:1] == b"{"
    assert wire.COVERED[0] == "@method"  # the base of a request's signature begins with it, in quotes
