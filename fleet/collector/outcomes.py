# SPDX-License-Identifier: Apache-2.0
"""What is answered to what a store made of a post?"""

from __future__ import annotations

from litestar import Response

from agent.model import canonical, wire
from fleet import errors
from fleet.store.records import Accepted, Ahead, HostGone, Missing, PostOutcome, Unchanged


def answer_post(outcome: PostOutcome) -> Response[bytes]:
    """The answer to a post.

    Raises:
        errors.RefusedError: state-ahead, or forbidden where the host was revoked in the meantime.
    """
    match outcome:
        case Unchanged():
            return Response(b"", status_code=204)
        case Accepted(seq):
            return _json(200, wire.StateReply(seq=seq))
        case Missing(digests):
            return _json(202, wire.MissingReply(missing=digests))
        case Ahead(seq):
            detail = f"seq {seq} was accepted already; go on with {seq + 1}"
            raise errors.RefusedError("state-ahead", detail, seq=seq)
        case HostGone():
            raise host_gone()


def host_gone() -> errors.RefusedError:
    """The refusal of what a host sends that was revoked while it did."""
    return errors.RefusedError("forbidden", "this host was revoked")


def _json(status: int, reply: wire.StateReply | wire.MissingReply) -> Response[bytes]:
    return Response(canonical.encode(reply), status_code=status, media_type=wire.MEDIA_JSON)
