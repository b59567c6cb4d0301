# SPDX-License-Identifier: Apache-2.0
"""How does a host become one of ours? Tokens, the proof of a key, and the key that hides users' names.

A token is 256 random bits, so its plain SHA-256 is enough to keep: nobody guesses what was drawn from 2**256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.model import wire
from fleet import errors, private

# The prefix lets people and secret scanners recognise a token that lies where it should not.
TOKEN_PREFIX = "cft_"  # noqa: S105 - says what a token is; no token itself
_TOKEN = re.compile(r"cft_[A-Za-z0-9_-]{43}")
_MACHINE_ID = re.compile(r"[0-9a-f]{64}")
_PSEUDONYM_KEY_BYTES = 32


def new_token() -> str:
    """A token nobody has seen yet. It is printed once and kept nowhere."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """What is kept of a token: the hex SHA-256 of its text."""
    return hashlib.sha256(token.encode()).hexdigest()


def host_id_of(public_key: bytes) -> str:
    """The identity that a raw Ed25519 public key gives its host."""
    return "h-" + hashlib.sha256(public_key).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Applicant:
    """A host that has proved to hold its private key. Whether its token is good is the store's to say."""

    token_sha256: str
    public_key: bytes
    hostname: str
    machine_id_sha256: str | None

    @property
    def host_id(self) -> str:
        """The identity it will have."""
        return host_id_of(self.public_key)


def check_request(request: wire.EnrollRequest) -> Applicant:
    """The applicant of an enrolment request, its proof verified.

    Raises:
        errors.RefusedError: malformed, a wrong proof, or a text that cannot be a token.
    """
    public_key = _base64(request.public_key, "public_key", 32)
    proof = _base64(request.proof, "proof", 64)
    if request.machine_id_sha256 is not None and not _MACHINE_ID.fullmatch(request.machine_id_sha256):
        raise errors.RefusedError("malformed", "machine_id_sha256 is not 64 lower-case hex digits")
    if not request.hostname.isprintable():
        raise errors.RefusedError("malformed", "hostname holds characters that cannot be printed")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(proof, b"enroll:" + request.token.encode())
    except (InvalidSignature, ValueError) as error:
        detail = (
            "the proof is not a signature over `enroll:` and the token with the private key of public_key"
        )
        raise errors.RefusedError("inconsistent", detail) from error
    if not _TOKEN.fullmatch(request.token):
        raise errors.RefusedError(
            "bad-token", "this is not a token of ours; make one with `fleet token create`"
        )
    return Applicant(
        token_sha256=token_digest(request.token),
        public_key=public_key,
        hostname=request.hostname,
        machine_id_sha256=request.machine_id_sha256,
    )


def _base64(text: str, name: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.RefusedError("malformed", f"{name} is not base64") from error
    if len(raw) != size:
        raise errors.RefusedError("malformed", f"{name} has {len(raw)} bytes; an Ed25519 one has {size}")
    return raw


@dataclass(frozen=True)
class PseudonymKey:
    """The fleet's key that hides human users' names in posts, so that hosts stay comparable."""

    key: bytes

    @property
    def key_id(self) -> str:
        """Names the key in documents without telling it: it is 256 random bits, so its hash can be shown."""
        return "p-" + hashlib.sha256(b"pseudonym:" + self.key).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"PseudonymKey({self.key_id})"


def ensure_pseudonym_key(path: Path) -> PseudonymKey:
    """The key in that file; made now, readable for its owner only, if there is none.

    Raises:
        errors.ConfigError: the file cannot be read or made, or holds no key.
    """
    try:
        if not path.exists():
            private.write(path, base64.b64encode(secrets.token_bytes(_PSEUDONYM_KEY_BYTES)) + b"\n")
    except OSError as error:
        raise errors.ConfigError(f"cannot make the pseudonym key {path}: {error.strerror}") from error
    return load_pseudonym_key(path)


def load_pseudonym_key(path: Path) -> PseudonymKey:
    """The key in that file.

    One that is lost is not made anew silently: posts before and after would no longer be comparable.

    Raises:
        errors.ConfigError: the file cannot be read, others can read it, or it holds no key.
    """
    try:
        key = base64.b64decode(private.read(path).strip(), validate=True)
    except OSError as error:
        raise errors.ConfigError(
            f"cannot read the pseudonym key {path}: {error.strerror}; restore it from a backup"
        ) from error
    except binascii.Error as error:
        raise errors.ConfigError(f"{path} does not hold a pseudonym key in base64") from error
    if len(key) != _PSEUDONYM_KEY_BYTES:
        raise errors.ConfigError(f"{path} holds {len(key)} bytes; a pseudonym key has {_PSEUDONYM_KEY_BYTES}")
    return PseudonymKey(key)
