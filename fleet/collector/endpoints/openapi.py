# SPDX-License-Identifier: Apache-2.0
"""GET /openapi.json: the description of all endpoints."""

from __future__ import annotations

from litestar import Controller, Response, get

from agent.model import wire
from fleet.collector.service import AnyRequest


class Endpoint(Controller):
    """The OpenAPI document."""

    path = "/openapi.json"

    @get()
    async def read_openapi(self, request: AnyRequest) -> Response[bytes]:
        """The description you are reading."""
        return Response(request.app.state.openapi, media_type=wire.MEDIA_JSON)
