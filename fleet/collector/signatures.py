# SPDX-License-Identifier: Apache-2.0
"""Which host sends this request? HTTP Message Signatures (RFC 9421), verified before the body is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)

from agent.model import wire
from fleet import errors
from fleet.store.records import Host

# Ours have 110 and 104 characters. What is longer is not parsed.
_HEADER_CHARS_MAX = 1024


@dataclass(frozen=True)
class Sender:
    """The host whose key signed the request.

    Attributes:
        host: as the store knows it; neither unknown nor revoked.
        skew_ms: the host's clock minus ours, to within a second; None when the signature does not tell its
            time.
    """

    host: Host
    skew_ms: int | None


class _Headers:
    """Header lines as they came, in order and with repetitions, as the verifier wants them."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in lines]

    def items(self) -> list[tuple[str, str]]:
        return self._lines

    def get(self, name: str) -> list[str]:
        return [value for found, value in self._lines if found == name]


@dataclass(frozen=True)
class _Message:
    """A request as the verifier wants it. The authority is not covered: a proxy does no harm."""

    method: str
    url: str
    headers: _Headers


class _Keys(HTTPSignatureKeyResolver):
    """Looks one host up and remembers what it found, since the verifier tells only that it failed."""

    def __init__(self, find: Callable[[str], Host | None]) -> None:
        self._find = find
        self.host: Host | None = None
        self.key_id: str | None = None

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        self.key_id = key_id
        self.host = self._find(key_id)
        if self.host is None or self.host.revoked_at is not None:
            return None
        return Ed25519PublicKey.from_public_bytes(self.host.public_key)


class _Verifier(HTTPMessageVerifier):
    """A verifier that does not ask the sender's clock: a host that is years off must still get through.

    What keeps an old request from counting again is its seq, and that parts are what their digest says.
    """

    require_created = False

    def validate_created_and_expires(self, sig_input: object, max_age: dt.timedelta | None = None) -> None:
        """Take any time."""


def authenticate(
    scope: Mapping[str, Any], find: Callable[[str], Host | None], now_ns: int, *, host_id: str | None = None
) -> Sender:
    """The sender of a signed request.

    Args:
        scope: the ASGI scope: method, raw path and headers as they came.
        find: a host by its id.
        now_ns: server time, for the skew.
        host_id: the only host that may send this, where the path names one.

    Raises:
        errors.RefusedError: unauthenticated, or forbidden for a revoked host and for another host's path.
    """
    headers = _Headers(scope["headers"])
    for name in ("signature-input", "signature", "content-digest"):
        lines = headers.get(name)
        if not lines:
            raise errors.RefusedError(
                "unauthenticated", f"no {name} header; sign over {' '.join(wire.COVERED)} (RFC 9421)"
            )
        if sum(map(len, lines)) > _HEADER_CHARS_MAX:
            raise errors.RefusedError(
                "unauthenticated", f"the {name} header is longer than {_HEADER_CHARS_MAX} characters"
            )
    query = scope["query_string"].decode("latin-1")
    path = scope["raw_path"].decode("latin-1")
    message = _Message(scope["method"], f"https://collector{path}" + (f"?{query}" if query else ""), headers)
    keys = _Keys(find)
    verifier = _Verifier(signature_algorithm=algorithms.ED25519, key_resolver=keys)
    try:
        results = verifier.verify(message, max_age=None, require_components=wire.COVERED)
    except HTTPMessageSignaturesException as error:
        if keys.key_id is not None and keys.host is None:
            detail = f"no host {keys.key_id[:80]!r} is enrolled here; enrol it"
            raise errors.RefusedError("unauthenticated", detail) from error
        if keys.host is not None and keys.host.revoked_at is not None:
            raise errors.RefusedError(
                "forbidden", "this host was revoked; it needs a new key and a new token"
            ) from error
        raise errors.RefusedError(
            "unauthenticated", "the signature does not verify over this request"
        ) from error
    host = keys.host
    assert host is not None
    assert len(results) == 1
    if host_id is not None and host.host_id != host_id:
        raise errors.RefusedError("forbidden", f"{host.host_id} may not write the state of another host")
    created = results[0].parameters.get("created")
    skew_ms = created * 1000 - now_ns // 1_000_000 if isinstance(created, int) else None
    return Sender(host, skew_ms)
