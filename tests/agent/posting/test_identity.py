# SPDX-License-Identifier: Apache-2.0
"""The host's key: made once, kept, never shown, and the same to OpenSSL as to us."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent import errors
from agent.posting.identity import HostKey, ensure_key, host_id_of, load_key
from agent.state import StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """An empty state directory."""
    with StateDirectory(str(tmp_path / "agent")) as found:
        yield found


def test_a_host_keeps_the_key_that_it_made(state: StateDirectory) -> None:
    """Another key would be another host."""
    assert load_key(state) is None
    first = ensure_key(state)

    assert ensure_key(state).host_id == first.host_id
    found = load_key(state)
    assert found is not None
    assert found.public_base64 == first.public_base64
    assert Path(state.path, "host.key").stat().st_mode & 0o777 == 0o600


def test_the_key_file_is_one_that_openssl_reads(state: StateDirectory) -> None:
    """And it finds the same public half, and the id is its hash."""
    key = ensure_key(state)

    der = subprocess.run(
        ["openssl", "pkey", "-in", f"{state.path}/host.key", "-pubout", "-outform", "DER"],
        check=True,
        capture_output=True,
    ).stdout
    # RFC 8410: a SubjectPublicKeyInfo of Ed25519 is 12 bytes and the raw key.
    assert der[12:] == key.public_bytes
    assert key.host_id == "h-" + hashlib.sha256(der[12:]).hexdigest()[:32]


def test_signatures_are_those_of_the_standard() -> None:
    """RFC 8032, section 7.1, test 2."""
    key = HostKey(
        Ed25519PrivateKey.from_private_bytes(
            bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        )
    )

    assert key.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_the_collector_derives_the_same_id() -> None:
    """Two implementations, one id."""
    from fleet.enroll import host_id_of as collectors

    for raw in (bytes(32), bytes(range(32))):
        assert host_id_of(raw) == collectors(raw)


def test_a_damaged_key_is_told_and_never_replaced(state: StateDirectory) -> None:
    """A new one in its place would make this host a stranger to its collector, silently."""
    ensure_key(state)
    for damaged in (b"", b"x", Path(state.path, "host.key").read_bytes()[:60], b"\xff" * 100):
        state.write("host.key", damaged)

        with pytest.raises(errors.StateError, match="holds no Ed25519 key") as caught:
            ensure_key(state)
        assert state.read("host.key", 4096) == damaged
        # The library's own error may quote the file.
        assert caught.value.__cause__ is None


def test_a_key_of_another_kind_is_refused(state: StateDirectory) -> None:
    """It would sign, and nobody would verify it."""
    other = ec.generate_private_key(ec.SECP256R1())
    state.write("host.key", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(errors.StateError, match="holds no Ed25519 key"):
        load_key(state)


def test_a_key_shows_its_id_and_nothing_else(state: StateDirectory) -> None:
    """It has no attribute that a printer of objects would follow into the private half's bytes."""
    key = ensure_key(state)

    assert repr(key) == f"HostKey({key.host_id})"
    assert not hasattr(key, "__dict__")
