# SPDX-License-Identifier: Apache-2.0
"""Who is this host? An Ed25519 key pair (RFC 8032) of its own making; its id is the public half's hash.

The private half stays in the state directory, 0600, as PKCS#8 PEM, and in this process; it signs and is never
shown. `openssl pkey -in host.key -pubout` reads the file.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agent import errors
from agent.state import StateDirectory

_FILE = "host.key"
# A PKCS#8 Ed25519 key in PEM has 119 bytes; what is larger is something else.
_FILE_BYTES_MAX = 4096


class HostKey:
    """The host's key pair. It has no form that shows the private half."""

    __slots__ = ("_private", "public_bytes")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_bytes = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_base64(self) -> str:
        """The raw public key, base64, as documents carry it."""
        return base64.b64encode(self.public_bytes).decode()

    @property
    def host_id(self) -> str:
        """The id that the collector will know this host by."""
        return host_id_of(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"HostKey({self.host_id})"


def host_id_of(public_key: bytes) -> str:
    """`h-` and the first 32 hex digits of SHA-256 over the raw public key."""
    return "h-" + hashlib.sha256(public_key).hexdigest()[:32]


def load_key(state: StateDirectory) -> HostKey | None:
    """The key that was made here, or None.

    Raises:
        StateError: the file is not ours alone, or holds no such key. A new one is never made in its place: it
            would be another host.
    """
    data = state.read(_FILE, _FILE_BYTES_MAX)
    if data is None:
        return None
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own words may quote the file, so they are not carried on.
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise errors.StateError(
            f"{state.path}/{_FILE} holds no Ed25519 key; restore it, or remove it and enrol this host anew"
        )
    return HostKey(private)


def ensure_key(state: StateDirectory) -> HostKey:
    """The key of this host, made at the first call and kept before it is used.

    Raises:
        StateError: it cannot be read or kept.
    """
    with state.locked():
        key = load_key(state)
        if key is None:
            private = Ed25519PrivateKey.generate()
            state.write(_FILE, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            key = HostKey(private)
    return key
