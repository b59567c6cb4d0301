# SPDX-License-Identifier: Apache-2.0
"""What do agent and collector say to each other? The bodies of requests and answers, their headers and media types.

Paths: POST /v1/enroll, PUT /v1/hosts/{host_id}/state, PUT /v1/parts/{digest}, POST /v1/inventories, GET /v1/ca.
Requests of an enrolled host are signed with HTTP Message Signatures (RFC 9421, ed25519) over `COVERED`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from agent.model.inventory import Digest, Signature, Timestamp

MEDIA_JSON = "application/json"
MEDIA_PROBLEM = "application/problem+json"
# What the transport signature covers: enough to know who sends what to where before a byte of the body is read.
COVERED = ("@method", "@path", "content-digest")
SIGNATURE_LABEL = "cryptofleet"
# Pace of the fleet, on every answer, a structured dictionary (RFC 8941): next_post_s=3600, rescan=?0, config_digest="..."
PACE_HEADER = "cryptofleet-pace"
# The identifier of the CA key that a collector's operator reads out: `sha256:` and hex over its SubjectPublicKeyInfo.
PIN_PATTERN = "^sha256:[0-9a-f]{64}$"


class EnrollRequest(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """POST /v1/enroll. Idempotent on (token, public_key)."""

    token: Annotated[
        str,
        Meta(
            min_length=16, max_length=200, description="Enrolment token as `fleet token create` printed it."
        ),
    ]
    public_key: Annotated[str, Meta(max_length=64, description="Raw Ed25519 public key, base64.")]
    hostname: Annotated[str, Meta(min_length=1, max_length=255, description="A hint for people.")]
    proof: Annotated[
        str, Meta(max_length=128, description="Signature over `enroll:` and the token with that key, base64.")
    ]
    machine_id_sha256: str | None = None


class EnrollReply(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """201 to an enrolment; the same again on a repeat."""

    host_id: str
    pseudonym_key: Annotated[
        str, Meta(description="Key that hides human users' names in posts, base64, 32 bytes.")
    ]
    pseudonym_key_id: str
    ca_pins: Annotated[tuple[str, ...], Meta(description="Pins of the collector's CA: current, then next.")]
    server_time: Timestamp
    next_post_s: int


class StateRequest(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """PUT /v1/hosts/{host_id}/state. The manifest's bytes are kept as sent."""

    manifest: msgspec.Raw
    signature: Signature
    live: msgspec.Raw = msgspec.Raw(b"{}")


class StateReply(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """200: accepted and durable. 204 has no body and means the same: nothing had changed."""

    seq: int


class MissingReply(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """202: nothing was taken; upload these parts, then put the same state again."""

    missing: tuple[Digest, ...]


class ImportReply(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """201 to a whole document."""

    host_id: str
    seq: int


class Problem(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """RFC 9457 problem document: every answer of 400 and above."""

    type: Annotated[str, Meta(description="urn:cryptofleet:problem:NAME; see `PROBLEMS`.")]
    title: str
    status: int
    detail: Annotated[str | None, Meta(description="What happened, to what, and what to do.")] = None
    seq: Annotated[
        int | None, Meta(description="state-ahead: the highest seq the collector has accepted.")
    ] = None
    limit: Annotated[int | None, Meta(description="too-large: the limit in bytes.")] = None
    supported: Annotated[
        tuple[int, ...], Meta(description="unsupported-schema: the schema versions taken.")
    ] = ()


# Every problem the collector can answer: name -> (status, title). A 4xx other than 401, 408, 409 and 429 is permanent:
# the agent must not send the same thing again.
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed": (400, "The body is not a document of this form"),
    "unauthenticated": (401, "The request carries no valid signature"),
    "bad-token": (403, "The enrolment token is not valid"),
    "forbidden": (403, "This host may not do that"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This method is not for that path"),
    "timeout": (408, "The body did not arrive in time"),
    "state-ahead": (409, "The collector already holds a later state of this host"),
    "length-required": (411, "The body needs a Content-Length"),
    "too-large": (413, "The body is larger than allowed"),
    "unsupported-media": (415, "Only JSON, plain or gzip, is taken"),
    "unsupported-schema": (415, "This version of the document is not taken"),
    "inconsistent": (422, "The document contradicts itself or its envelope"),
    "too-many": (429, "Too many requests"),
    "internal": (500, "The collector failed"),
    "unavailable": (503, "The collector cannot take this now"),
}


def problem(name: str, detail: str | None = None, **more: Any) -> Problem:  # noqa: ANN401 - the optional members of Problem
    """The problem document of that name."""
    status, title = PROBLEMS[name]
    return Problem(type=f"urn:cryptofleet:problem:{name}", title=title, status=status, detail=detail, **more)
