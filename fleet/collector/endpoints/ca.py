# SPDX-License-Identifier: Apache-2.0
"""GET /v1/ca: the certificate of the CA, to be compared with the pin before it is trusted."""

from __future__ import annotations

from litestar import Controller, Response, get

from fleet.collector.service import AnyRequest, collector_of

# RFC 8555 section 9.1.
_MEDIA_PEM = "application/pem-certificate-chain"


class Endpoint(Controller):
    """The CA certificate."""

    path = "/v1/ca"

    @get(media_type=_MEDIA_PEM)
    async def read_ca(self, request: AnyRequest) -> Response[bytes]:
        """The collector's CA certificate in PEM."""
        return Response(collector_of(request).authority.pem, media_type=_MEDIA_PEM)
