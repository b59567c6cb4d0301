# SPDX-License-Identifier: Apache-2.0
"""POST /v1/enroll: a token and a public key become a host."""

from __future__ import annotations

import base64

import structlog
from litestar import Controller, Response, post

from agent.model import canonical, wire
from fleet import enroll, errors
from fleet.collector import bodies, documents, openapi
from fleet.collector.service import AnyRequest, collector_of
from fleet.store.records import EnrolmentRefused

_log = structlog.get_logger("collector")


class Endpoint(Controller):
    """Enrolment. Unsigned: the token and the proof of the key are its authentication."""

    path = "/v1/enroll"

    @post(
        status_code=201,
        operation_class=openapi.body(wire.EnrollRequest, "Idempotent on token and public_key."),
        responses={
            201: openapi.answer(wire.EnrollReply, "enrolled, now or already"),
            **openapi.problems(
                "malformed", "bad-token", "length-required", "too-large", "unsupported-media", "inconsistent",
                "too-many", "internal", "unavailable",
            ),
        },
    )  # fmt: skip
    async def enroll(self, request: AnyRequest) -> Response[bytes]:
        """Enrol a host."""
        collector = collector_of(request)
        origin = request.client.host if request.client else "unknown"
        if collector.refusals.is_empty(origin):
            raise errors.RefusedError(
                "too-many", "too many enrolments were refused just now; come back later"
            )
        with collector.strangers.place():
            body = await bodies.read(request, documents.ENROLL_BYTES_MAX)
        applicant = enroll.check_request(documents.read_enroll(body))
        now_ns = collector.now_ns()
        outcome = await collector.durable(collector.store.enroll(applicant, origin=origin, now_ns=now_ns))
        if isinstance(outcome, EnrolmentRefused):
            collector.refusals.take(origin)
            _log.warning("enrolment refused", reason=outcome.reason, host=applicant.host_id, client=origin)
            raise errors.RefusedError("bad-token", "ask for a new token: `fleet token create`")
        if not outcome.again:
            _log.info("enrolled", host=outcome.host_id, name=applicant.hostname, client=origin)
        reply = wire.EnrollReply(
            host_id=outcome.host_id,
            pseudonym_key=base64.b64encode(collector.pseudonym_key.key).decode(),
            pseudonym_key_id=collector.pseudonym_key.key_id,
            ca_pins=(collector.authority.pin,),
            server_time=canonical.timestamp(now_ns),
            next_post_s=collector.next_post_s,
        )
        return Response(canonical.encode(reply), status_code=201, media_type=wire.MEDIA_JSON)
