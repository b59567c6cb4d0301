# SPDX-License-Identifier: Apache-2.0
"""How do endpoints, errors and the shared collector become one application?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import structlog
from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from agent import discover
from agent.model import canonical, wire
from fleet import errors
from fleet.collector import endpoints, openapi
from fleet.collector.edge import Application, Edge
from fleet.collector.service import AnyRequest, Collector

_log = structlog.get_logger("collector")

# What the framework refuses by itself, in our words.
_BY_STATUS = {
    400: "malformed",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media",
}
_RETRY_AFTER_S = "30"
_GARBAGE_EVERY_S = 600.0
_GARBAGE_BATCH = 200


def build(collector: Collector) -> Edge:
    """The application that serves for this collector."""
    controllers = [module.Endpoint for module in discover.plugins(endpoints).values()]
    app = Litestar(
        controllers,
        state=State({"collector": collector, "openapi": openapi.document(controllers)}),
        lifespan=[_upkeep],
        exception_handlers={errors.RefusedError: _refused, HTTPException: _framework, Exception: _failed},
        # Litestar's limit on bodies would speak before the signature is verified; ours is in bodies.py.
        request_max_body_size=None,
        logging_config=None,
        openapi_config=None,
    )
    # Litestar's own types of scope and message are narrower than the specification's.
    return Edge(cast("Application", app), lambda: collector.pace)


def _answer(
    request: AnyRequest, problem: wire.Problem, headers: dict[str, str] | None = None
) -> Response[bytes]:
    if problem.status in (429, 503):
        headers = {"retry-after": _RETRY_AFTER_S, **(headers or {})}
    client = request.client.host if request.client else None
    _log.info("refused", method=request.method, path=_path(request), status=problem.status,
              problem=problem.type, client=client)  # fmt: skip
    return Response(
        canonical.encode(problem), status_code=problem.status, media_type=wire.MEDIA_PROBLEM, headers=headers
    )


def _path(request: AnyRequest) -> str:
    # Not the request's URL: that is put together with the Host header, and fails on a senseless one.
    return str(request.scope["path"])[:200]


def _refused(request: AnyRequest, error: errors.RefusedError) -> Response[bytes]:
    return _answer(request, error.problem)


def _framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """What the framework says of a path, a method or a header. Its own words stay inside."""
    name = _BY_STATUS.get(error.status_code)
    if name is None:
        return _failed(request, error)
    allow = (error.headers or {}).get("allow")
    # The framework keeps the methods in a set, whose order changes from start to start.
    headers = {"allow": ", ".join(sorted(allow.split(", ")))} if allow else None
    return _answer(request, wire.problem(name), headers)


def _failed(request: AnyRequest, error: Exception) -> Response[bytes]:
    """What is no fault of the sender's. The reason goes to our log and not to him."""
    if isinstance(error, errors.StoreUnavailableError):
        _log.error("store unavailable", error=str(error))
        return _answer(
            request, wire.problem("unavailable", "the collector cannot write now; nothing was taken")
        )
    _log.error("failed", method=request.method, path=_path(request), exc_info=error)
    return _answer(
        request,
        wire.problem("internal", "nothing is known to have been taken; the collector's log has the cause"),
    )


@asynccontextmanager
async def _upkeep(app: Litestar) -> AsyncIterator[None]:
    """Collect garbage while the application lives."""
    collector: Collector = app.state.collector
    task = asyncio.create_task(_collect_garbage(collector))
    try:
        yield
    finally:
        task.cancel()


async def _collect_garbage(collector: Collector) -> None:
    while True:
        await asyncio.sleep(_GARBAGE_EVERY_S)
        try:
            taken = _GARBAGE_BATCH
            while taken == _GARBAGE_BATCH:
                found = collector.store.collect_garbage(now_ns=collector.now_ns(), batch=_GARBAGE_BATCH)
                garbage = await collector.durable(found)
                taken = garbage.leases
                if garbage.parts:
                    _log.info("garbage collected", parts=garbage.parts, bytes=garbage.bytes)
        except errors.StoreError as error:
            _log.error("garbage not collected", error=str(error))
