# SPDX-License-Identifier: Apache-2.0
"""What became of the last post? A note for people, kept beside the spool; nothing is decided by it."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from msgspec import Struct

from agent import errors
from agent.model import canonical
from agent.state import StateDirectory

_FILE = "last_post.json"
_FILE_BYTES_MAX = 64 * 1024
# A collector's own words may be a page.
_FAILURE_CHARS_MAX = 500


class LastPost(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The last one that arrived, and the failure since then. Times are the host's own."""

    delivered_at: str | None = None
    outcome: str | None = None
    """accepted, or unchanged: the collector had the same sections already."""
    seq: int | None = None
    next_post_s: int | None = None
    """When the collector wanted the next one, in seconds from then."""
    failed_at: str | None = None
    failure: str | None = None


def load(state: StateDirectory) -> LastPost:
    """The note; an empty one where there is none, or none that can be read as one.

    Raises:
        StateError: the file cannot be read or trusted.
    """
    data = state.read(_FILE, _FILE_BYTES_MAX)
    try:
        return LastPost() if data is None else msgspec.json.decode(data, type=LastPost)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return LastPost()


def note_delivery(
    state: StateDirectory, now_ns: int, *, outcome: str, seq: int | None, next_post_s: int | None
) -> None:
    """A state has arrived."""
    at = canonical.timestamp(now_ns)
    _save(state, LastPost(delivered_at=at, outcome=outcome, seq=seq, next_post_s=next_post_s))


def note_failure(state: StateDirectory, now_ns: int, failure: str) -> None:
    """One has not; the last that has stays noted."""
    with suppress(errors.StateError):
        last = msgspec.structs.replace(
            load(state), failed_at=canonical.timestamp(now_ns), failure=failure[:_FAILURE_CHARS_MAX]
        )
        _save(state, last)


def _save(state: StateDirectory, last: LastPost) -> None:
    # A post does not fail because it could not be noted.
    with suppress(errors.StateError):
        state.write(_FILE, canonical.encode(last) + b"\n")
