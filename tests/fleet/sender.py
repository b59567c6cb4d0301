# SPDX-License-Identifier: Apache-2.0
"""What would a host send? A sender with a key, written from the wire's description, not from the agent."""

from __future__ import annotations

import base64
import datetime as dt
import gzip as gzip_module
import hashlib
import json
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

from agent.model import canonical, inventory, wire

COVERED = ("@method", "@path", "content-digest")


@dataclass
class _Message:
    method: str
    url: str
    headers: dict[str, str]


class _Key(HTTPSignatureKeyResolver):
    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return self._key


@dataclass
class Sender:
    """One host: a key, the identity that follows from it, and a connection."""

    client: httpx.Client
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    clock_off: dt.timedelta = dt.timedelta()

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def host_id(self) -> str:
        return "h-" + hashlib.sha256(self.public_key).hexdigest()[:32]

    # -- requests as they should be ------------------------------------------------------------------------

    def enroll(self, token: str, **changed: object) -> httpx.Response:
        """POST /v1/enroll; `changed` replaces members of the request."""
        request = {
            "token": token,
            "public_key": base64.b64encode(self.public_key).decode(),
            "hostname": "web1",
            "proof": base64.b64encode(self.key.sign(b"enroll:" + token.encode())).decode(),
            **changed,
        }
        return self.client.post("/v1/enroll", json=request)

    def put_part(self, body: bytes, *, digest: str | None = None, gzip: bool = False) -> httpx.Response:
        """PUT /v1/parts/{digest}."""
        return self.send("PUT", f"/v1/parts/{digest or canonical.digest(body)}", body, gzip=gzip)

    def put_state(self, manifest: inventory.Manifest, *, gzip: bool = False) -> httpx.Response:
        """PUT /v1/hosts/{id}/state."""
        return self.send("PUT", f"/v1/hosts/{self.host_id}/state", self.state(manifest), gzip=gzip)

    def post_all(self, manifest: inventory.Manifest, *parts: bytes) -> httpx.Response:
        """Put the state, upload what is missing, and put it again: what an agent does."""
        answer = self.put_state(manifest)
        if answer.status_code != 202:
            return answer
        bodies = {canonical.digest(body): body for body in parts}
        for digest in answer.json()["missing"]:
            self.put_part(bodies[digest]).raise_for_status()
        return self.put_state(manifest)

    # -- their pieces --------------------------------------------------------------------------------------

    def signature(self, manifest: bytes) -> dict[str, str]:
        """The detached signature over a manifest's bytes."""
        return {
            "algorithm": "ed25519",
            "public_key": base64.b64encode(self.public_key).decode(),
            "value": base64.b64encode(self.key.sign(manifest)).decode(),
        }

    def state(self, manifest: inventory.Manifest | bytes, live: bytes = b"{}") -> bytes:
        """The body of a state request around a manifest, whose bytes stay as they are."""
        raw = manifest if isinstance(manifest, bytes) else canonical.encode(manifest)
        signature = json.dumps(self.signature(raw)).encode()
        return b'{"live":' + live + b',"manifest":' + raw + b',"signature":' + signature + b"}"

    def document(self, manifest: inventory.Manifest, *parts: bytes) -> bytes:
        """A whole document, as carried by hand."""
        raw = canonical.encode(manifest)
        inside = b",".join(b'"' + canonical.digest(body).encode() + b'":' + body for body in parts)
        signature = json.dumps(self.signature(raw)).encode()
        return b'{"manifest":' + raw + b',"parts":{' + inside + b'},"signature":' + signature + b"}"

    def headers(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        covered: tuple[str, ...] = COVERED,
        key_id: str | None = None,
    ) -> dict[str, str]:
        """Headers of a signed request (RFC 9421, RFC 9530)."""
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        message = _Message(method, f"https://any{path}", {"content-digest": f"sha-256=:{digest}:"})
        signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Key(self.key))
        signer.sign(
            message,
            key_id=key_id or self.host_id,
            created=dt.datetime.now(dt.UTC) + self.clock_off,
            label=wire.SIGNATURE_LABEL,
            covered_component_ids=covered,
            use_existing_digest=True,
        )
        return {**message.headers, "content-type": "application/json"}

    def request(self, method: str, path: str, body: bytes) -> bytes:
        """The bytes of a signed request in HTTP/1.1."""
        headers = {"host": "collector", "content-length": str(len(body)), **self.headers(method, path, body)}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def send(self, method: str, path: str, body: bytes, *, gzip: bool = False) -> httpx.Response:
        """A signed request."""
        sent = gzip_module.compress(body) if gzip else body
        headers = self.headers(method, path, sent)
        if gzip:
            headers["content-encoding"] = "gzip"
        return self.client.request(method, path, content=sent, headers=headers)


class Line:
    """A TLS connection on which ready-made requests are sent one after the other, at little cost."""

    def __init__(self, url: str, ca: Path) -> None:
        host, port = url.removeprefix("https://").rsplit(":", 1)
        context = ssl.create_default_context(cafile=str(ca))
        self._socket = context.wrap_socket(
            socket.create_connection((host, int(port)), timeout=60), server_hostname=host
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> int:
        """The status of the answer, which is read to its end."""
        self._socket.sendall(request)
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._socket.recv(65536) or self._ended()
        head, _, rest = found.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        while len(rest) < int(length[1] if length else 0):
            rest += self._socket.recv(65536) or self._ended()
        return int(head.split(b" ", 2)[1])

    def _ended(self) -> bytes:
        raise ConnectionError("the collector closed the connection")

    def close(self) -> None:
        self._socket.close()


def connect(url: str, ca: Path | None) -> httpx.Client:
    """A client that trusts this CA and nothing else, and asks no proxy."""
    verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else False
    return httpx.Client(base_url=url, verify=verify, trust_env=False, timeout=30)
