# SPDX-License-Identifier: Apache-2.0
"""GET /healthz and /readyz: is the process alive, and can it keep what it is given?"""

from __future__ import annotations

import time

from litestar import Controller, Response, get

from agent.model import wire
from fleet.collector import openapi
from fleet.collector.service import AnyRequest, collector_of

_OK = b'{"status":"ok"}'
# A successful check is believed for this long, so that asking often costs no disk.
_BELIEVED_S = 2.0
_CHECKED = "readiness_checked_at"


class Endpoint(Controller):
    """Liveness and readiness, as load balancers and supervisors ask."""

    path = "/"

    @get("/healthz")
    async def read_health(self) -> Response[bytes]:
        """The process answers."""
        return Response(_OK, media_type=wire.MEDIA_JSON)

    @get("/readyz", responses=openapi.problems("unavailable"))
    async def read_readiness(self, request: AnyRequest) -> Response[bytes]:
        """A row was made durable just now; otherwise 503."""
        collector = collector_of(request)
        now = time.monotonic()
        if now - request.app.state.get(_CHECKED, -_BELIEVED_S) >= _BELIEVED_S:
            await collector.durable(collector.store.check_writable(now_ns=collector.now_ns()))
            request.app.state[_CHECKED] = now
        return Response(_OK, media_type=wire.MEDIA_JSON)
