# SPDX-License-Identifier: Apache-2.0
"""PUT /v1/hosts/{host_id}/state: a host says what it is now."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import msgspec
from litestar import Controller, Response, put
from litestar.params import FromPath

from agent.model import inventory, wire
from fleet.collector import bodies, documents, openapi
from fleet.collector.outcomes import answer_post
from fleet.collector.service import AnyRequest, collector_of
from fleet.collector.signatures import authenticate


class _StateDocument(msgspec.Struct):
    """A `wire.StateRequest` with the types of what it keeps as bytes."""

    manifest: inventory.Manifest
    signature: inventory.Signature
    live: dict[str, Any] = {}


class Endpoint(Controller):
    """A host's state."""

    path = "/v1/hosts/{host_id:str}/state"

    @put(
        status_code=200,
        operation_class=openapi.body(_StateDocument, "Signed by the host (RFC 9421)."),
        responses={
            200: openapi.answer(wire.StateReply, "accepted and durable"),
            202: openapi.answer(wire.MissingReply, "nothing was taken; upload these, then put it again"),
            204: openapi.answer(None, "accepted and durable; nothing had changed"),
            **openapi.problems(
                "malformed", "unauthenticated", "forbidden", "timeout", "state-ahead", "length-required",
                "too-large", "unsupported-media", "unsupported-schema", "inconsistent", "internal",
                "unavailable",
            ),
        },
    )  # fmt: skip
    async def put_state(self, request: AnyRequest, host_id: FromPath[str]) -> Response[bytes]:
        """Make a manifest the host's state."""
        collector = collector_of(request)
        sender = authenticate(request.scope, collector.store.host, collector.now_ns(), host_id=host_id)
        async with AsyncExitStack() as turn:
            if bodies.is_large(request):
                await turn.enter_async_context(collector.large)
            body = await bodies.read(request, documents.STATE_BYTES_MAX)
            received_ns = collector.now_ns()
            post = await bodies.beside(
                lambda data: documents.read_state(data, sender.host, received_ns, sender.skew_ms), body
            )
        return answer_post(await collector.durable(collector.store.put_state(post)))
