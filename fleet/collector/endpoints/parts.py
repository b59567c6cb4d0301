# SPDX-License-Identifier: Apache-2.0
"""PUT /v1/parts/{digest}: a host uploads what its state will refer to."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack

from litestar import Controller, put
from litestar.params import FromPath

from agent.model import canonical, limits
from fleet import errors
from fleet.collector import bodies, documents, openapi
from fleet.collector.outcomes import host_gone
from fleet.collector.service import AnyRequest, collector_of
from fleet.collector.signatures import authenticate


class Endpoint(Controller):
    """Parts."""

    path = "/v1/parts/{digest:str}"

    @put(
        status_code=204,
        operation_class=openapi.body(
            {"type": "array", "items": {"type": "object", "required": ["key", "asset"]}},
            "Entries sorted by key, signed by the host (RFC 9421).",
        ),
        responses={
            204: openapi.answer(None, "durable, and leased until a state refers to it"),
            **openapi.problems(
                "malformed", "unauthenticated", "forbidden", "timeout", "length-required", "too-large",
                "unsupported-media", "inconsistent", "internal", "unavailable",
            ),
        },
    )  # fmt: skip
    async def put_part(self, request: AnyRequest, digest: FromPath[str]) -> None:
        """Upload a part."""
        collector = collector_of(request)
        sender = authenticate(request.scope, collector.store.host, collector.now_ns())
        if not canonical.is_digest(digest):
            raise errors.RefusedError(
                "malformed", f"{digest[:80]!r} is not a digest; write sha256: and 64 hex digits"
            )
        async with AsyncExitStack() as turn:
            if bodies.is_large(request):
                await turn.enter_async_context(collector.large)
            body = await bodies.read(request, limits.PART_BYTES_MAX)
            await bodies.beside(functools.partial(documents.read_part, digest), body)
        now_ns = collector.now_ns()
        kept = collector.store.put_part(
            sender.host.host_id,
            digest,
            body,
            leased_until_ns=now_ns + collector.lease_s * 1_000_000_000,
            now_ns=now_ns,
        )
        if not await collector.durable(kept):
            raise host_gone()
