# SPDX-License-Identifier: Apache-2.0
"""What holds for every request and every answer, also those that no endpoint of ours has made?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from agent.model import canonical, wire

# The types of the ASGI specification itself: what stands on either side of this is a framework and a server.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Requests in the house at once. Each costs some 100 KiB, apart from large bodies, which wait for their own
# turn.
_REQUESTS_MAX = 1024
# A refused body is read so far and so long, so that its sender gets to read the answer instead of a reset
# connection.
_DRAIN_BYTES_MAX = 1024 * 1024
_DRAIN_S = 2.0


class Edge:
    """An ASGI application around another: the pace on every answer, a polite end of refused bodies."""

    def __init__(self, app: Application, pace: Callable[[], str]) -> None:
        self._app = app
        self._pace = pace
        self._requests = 0

    def pace_header(self) -> tuple[bytes, bytes]:
        """The header that every answer carries."""
        return wire.PACE_HEADER.encode(), self._pace().encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.pace_header())
        if self._requests >= _REQUESTS_MAX:
            await exchange.refuse("unavailable", "too many requests at once; come back later")
            return
        self._requests += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._requests -= 1


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Message, receive: Receive, send: Send, pace: tuple[bytes, bytes]) -> None:
        names: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._pace = pace
        # HTTP/1.1 (RFC 9112 section 6): without either header there is no body.
        self._unread = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        # Its sender waits for our word before it sends the body, and a refusal is that word.
        self._waits = names.get(b"expect", b"").lower() == b"100-continue"

    async def receive(self) -> Message:
        """The next piece of the request."""
        message = await self._receive()
        self._waits = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the answer."""
        if message["type"] == "http.response.start":
            headers = [*message["headers"], self._pace]
            # Who was too slow with the body (408) is not waited for once more.
            if self._unread and not self._waits and message["status"] != 408:
                await self._drain()
            if self._unread:
                # The rest of the body must not be taken for the next request.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, name: str, detail: str) -> None:
        """Answer with a problem, without any application."""
        problem = wire.problem(name, detail)
        body = canonical.encode(problem)
        headers = [
            (b"content-type", wire.MEDIA_PROBLEM.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"30"),
        ]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _drain(self) -> None:
        left = _DRAIN_BYTES_MAX
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._unread and left > 0:
                    message = await self.receive()
                    left -= len(message["body"]) if message["type"] == "http.request" else 0
        except TimeoutError:
            pass
