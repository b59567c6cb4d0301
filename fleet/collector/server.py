# SPDX-License-Identifier: Apache-2.0
"""How does the collector come up, serve over TLS, and go down without losing what it has answered?"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.model import canonical, wire
from fleet import authority, enroll, errors
from fleet.collector import logs
from fleet.collector.app import build
from fleet.collector.edge import Edge
from fleet.collector.service import Collector
from fleet.config import DataDir, Settings
from fleet.store import open_store

_log = structlog.get_logger("collector")

# A connection that has not sent a whole request head by then, or nothing since its last answer, is closed.
_HEAD_S = 20.0
_KEEP_ALIVE_S = 75
# What is in the house gets this long to be finished when the collector goes down.
_DRAIN_S = 20
# Enough for every host of a large fleet that reconnects at once after an outage.
_DESCRIPTORS = 65_536


def initialise(settings: Settings) -> None:
    """Make what a collector needs, in a directory that is none yet: CA, pseudonym key, and last the store.

    Where a collector has been, nothing is made anew: another CA would lock every agent out, and another store
    would forget them, both without a word.

    Raises:
        errors.ConfigError: something cannot be made, or something was lost that had been made.
    """
    settings.data.create()
    if _was_here(settings.data):
        return
    authority.create_authority(settings.data.ca, _now())
    enroll.ensure_pseudonym_key(settings.data.pseudonym_key)
    open_store(settings.data.database, create=True).close()


def _was_here(data: DataDir) -> bool:
    """Whether this directory was initialised before; then nothing of it may be missing."""
    try:
        there = {path: path.is_file() and path.stat().st_size > 0 for path in data.lasting}
    except OSError as error:
        raise errors.ConfigError(f"cannot look into {data.root}: {error.strerror}") from error
    # The store is made last, the server's certificate later still.
    if not there[data.database] and not data.tls.exists():
        return False
    if lost := [str(path) for path, found in there.items() if not found]:
        raise errors.ConfigError(
            f"{data.root} has been in use, and this is missing or empty: {', '.join(lost)}. Restore it from a"
            " backup; to give up this fleet and begin another, use another directory"
        )
    return True


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun.

    Args:
        settings: on what terms.
        say: told, line by line, `ca pin sha256:...` and, once connections are accepted, `listening on
            https://...`.

    Raises:
        errors.ConfigError: the data directory is not one, or the address cannot be listened on.
    """
    settings.data.require()
    ca = authority.load_authority(settings.data.ca)
    pseudonym_key = enroll.load_pseudonym_key(settings.data.pseudonym_key)
    names = authority.own_names(settings.listen.host, settings.names)
    files, renewed = authority.ensure_server_certificate(ca, settings.data.tls, names, _now())
    logs.configure()
    _allow_connections()
    if renewed:
        _log.info("server certificate issued", names=list(names), directory=str(settings.data.tls))
    listener = _listen(settings)
    try:
        store = open_store(settings.data.database)
        try:
            collector = Collector(
                store=store,
                authority=ca,
                pseudonym_key=pseudonym_key,
                next_post_s=settings.next_post_s,
                lease_s=settings.lease_s,
            )
            config = uvicorn.Config(
                build(collector),
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
                ssl_certfile=None if settings.plain_http else files.chain,
                ssl_keyfile=None if settings.plain_http else files.key,
            )
            url = settings.listen.url("http" if settings.plain_http else "https", listener.getsockname()[1])

            def started() -> None:
                say(f"ca pin {ca.pin}")
                say(f"listening on {url}")
                _log.info("listening", url=url)

            asyncio.run(_Server(config, started).serve(sockets=[listener]))
        finally:
            store.close()
    finally:
        listener.close()
    _log.info("stopped")


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells when it accepts connections, and ends well on a signal."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._told()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn's own raises the signal again at the end, which would make an orderly end look like a killed
        # process.
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C does not wait for the slowest sender.
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


class _Protocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with an end to waiting for a request, and our words for what is none."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # DONE: the last request was answered whole. IDLE: no head of a next one is complete.
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self._waiting is None:
                self._await_head()
        else:
            self._head_came()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        problem = wire.problem("malformed", "this is not a request in HTTP/1.1")
        body = canonical.encode(problem)
        headers = [
            (b"content-type", wire.MEDIA_PROBLEM.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if isinstance(self.app, Edge):
            headers.append(self.app.pace_header())
        for event in (
            h11.Response(status_code=problem.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_head(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_S, self.transport.close)

    def _head_came(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def _listen(settings: Settings) -> socket.socket:
    """A listening socket, so that an address that cannot be had is told before anything else is begun."""
    host, port = settings.listen.host, settings.listen.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise errors.ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --listen"
        ) from error
    return listener


def _allow_connections() -> None:
    """Take as many descriptors as the limit allows: each connection is one, and most begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # A sandbox may forbid even this; then it is the operator who limits.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
