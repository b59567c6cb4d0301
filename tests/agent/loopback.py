# SPDX-License-Identifier: Apache-2.0
"""What stands on the other side in tests: a CA, and an HTTPS server on loopback that says what it is told."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.UTC)
YEAR = dt.timedelta(days=365)


class Authority:
    """A CA of one test."""

    def __init__(
        self, name: str = "test CA", *, begins: dt.datetime = NOW - YEAR, ends: dt.datetime = NOW + YEAR
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._certificate(begins, ends)

    def _certificate(self, begins: dt.datetime, ends: dt.datetime) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def renew(self) -> None:
        """A new certificate for the same key."""
        self.certificate = self._certificate(NOW - YEAR, NOW + 2 * YEAR)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pin(self) -> str:
        spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return "sha256:" + hashlib.sha256(spki).hexdigest()

    def issue(
        self,
        path: Path,
        *names: str,
        begins: dt.datetime = NOW - YEAR,
        ends: dt.datetime = NOW + YEAR,
    ) -> Path:
        """Write a server's certificate and key into one PEM file; 127.0.0.1 when no name is given."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names or ("127.0.0.1",)]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Request:
    """A request as it came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What the server is told to say. Without a status it hangs up."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """An HTTPS server that keeps every request. Handshakes are done by the connection's own thread."""

    def __init__(self, pem: Path, answer: Callable[[Request], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.use(pem)
        self.answer = answer
        self.requests: list[Request] = []

    def use(self, pem: Path) -> None:
        """Another certificate from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.context = context

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not like our certificate hangs up: that is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    timeout = 20

    def setup(self) -> None:
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.request.close()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(
            self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body
        )
        self.server.requests.append(request)
        reply = self.server.answer(request)
        if reply.status is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.status != 204:
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = _serve  # noqa: N815 - names that the library looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Tests look at `requests`."""


@contextmanager
def serving(pem: Path, answer: Callable[[Request], Reply]) -> Iterator[Server]:
    """Such a server, until the end of the block."""
    server = Server(pem, answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Proxy:
    """An HTTP proxy that tunnels one connection at a time, and keeps what it was asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A blocked accept() does not notice that its socket is closed; a shutdown it does.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += near.recv(4096)
                self.asked.append(head.decode())
                host, _, port = head.split(b" ")[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as far:
                    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=_copy, args=(far, near))
                    back.start()
                    _copy(near, far)
                    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def pem_body(pem: bytes) -> str:
    """The base64 between the lines of a PEM text, as one word."""
    return "".join(line for line in pem.decode().splitlines() if not line.startswith("-"))


def proxy_credentials(request_head: str) -> str:
    """`name:password` that a proxy was given."""
    line = next(line for line in request_head.splitlines() if line.lower().startswith("proxy-authorization:"))
    return base64.b64decode(line.split()[-1]).decode()
