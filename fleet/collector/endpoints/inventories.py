# SPDX-License-Identifier: Apache-2.0
"""POST /v1/inventories: a whole document at once, carried by whoever has it."""

from __future__ import annotations

from litestar import Controller, Response, post

from agent.model import canonical, inventory, limits, wire
from fleet.collector import bodies, documents, openapi
from fleet.collector.outcomes import answer_post
from fleet.collector.service import AnyRequest, Collector, collector_of
from fleet.store.records import Accepted, Post, Unchanged


class Endpoint(Controller):
    """Whole documents. Unsigned on the way: what counts is the manifest's signature by an enrolled host."""

    path = "/v1/inventories"

    @post(
        status_code=201,
        operation_class=openapi.body(inventory.Inventory, "As `fleet-agent snapshot` prints it, signed."),
        responses={
            201: openapi.answer(wire.ImportReply, "durable"),
            202: openapi.answer(wire.MissingReply, "nothing was taken; the document lacks these parts"),
            **openapi.problems(
                "malformed", "forbidden", "timeout", "state-ahead", "length-required", "too-large",
                "unsupported-media", "unsupported-schema", "inconsistent", "internal", "unavailable",
            ),
        },
    )  # fmt: skip
    async def post_inventory(self, request: AnyRequest) -> Response[bytes]:
        """Take a whole document as its host's state."""
        collector = collector_of(request)
        with collector.strangers.place():
            async with collector.documents:
                read = await self._read(request, collector)
        outcome = await collector.durable(collector.store.put_state(read))
        if isinstance(outcome, Accepted | Unchanged):
            reply = wire.ImportReply(host_id=read.host_id, seq=outcome.seq)
            return Response(canonical.encode(reply), status_code=201, media_type=wire.MEDIA_JSON)
        return answer_post(outcome)

    @staticmethod
    async def _read(request: AnyRequest, collector: Collector) -> Post:
        body = await bodies.read(request, limits.DOCUMENT_BYTES_MAX)
        received_ns = collector.now_ns()
        return await bodies.beside(
            lambda data: documents.read_inventory(data, collector.store.host, received_ns), body
        )
