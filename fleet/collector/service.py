# SPDX-License-Identifier: Apache-2.0
"""What does every endpoint share? Store, CA, clock, the fleet's pace, and turns for large bodies."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Request

from fleet import errors
from fleet.authority import Authority
from fleet.config import LEASE_S, NEXT_POST_S_DEFAULT
from fleet.enroll import PseudonymKey
from fleet.store import Store

T = TypeVar("T")
AnyRequest = Request[Any, Any, Any]

# A write that has not become durable by then will not do the sender any good; it may still happen, and a
# repeat is harmless.
_DURABLE_S = 30.0
# How many wrong enrolments are taken of one address before they are slowed down, and how many a second after
# that. Guessing 256 bits is hopeless anyhow; this bounds what a stranger can add to the audit log.
_REFUSALS_MAX = 20
_REFUSALS_PER_S = 1.0
# Requests at once that carry a body and no signature over it: a quarter of all there is room for, so that
# strangers who send slowly keep no host of ours out.
_STRANGERS_MAX = 256
# Addresses remembered; the one that was quiet longest is forgotten first.
_ORIGINS_MAX = 4096


class Throttle:
    """A bucket for each origin, which its refusals empty and time fills: it slows down itself alone."""

    def __init__(self, size: int = _REFUSALS_MAX, per_s: float = _REFUSALS_PER_S) -> None:
        self._size = size
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _now(self, origin: str) -> float:
        left, since = self._left.get(origin, (float(self._size), 0.0))
        return min(self._size, left + (time.monotonic() - since) * self._per_s)

    def is_empty(self, origin: str) -> bool:
        """Whether this origin may try nothing more now."""
        return self._now(origin) < 1

    def take(self, origin: str) -> None:
        """Count one refusal of this origin."""
        self._left[origin] = (self._now(origin) - 1, time.monotonic())
        self._left.move_to_end(origin)
        if len(self._left) > _ORIGINS_MAX:
            self._left.popitem(last=False)


class Room:
    """So many places, and nobody waits for one."""

    def __init__(self, places: int = _STRANGERS_MAX) -> None:
        self._left = places

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            errors.RefusedError: unavailable; all are taken.
        """
        if self._left < 1:
            raise errors.RefusedError("unavailable", "too many unsigned requests at once; come back later")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


@dataclass(kw_only=True)
class Collector:
    """One running collector."""

    store: Store
    authority: Authority
    pseudonym_key: PseudonymKey
    next_post_s: int = NEXT_POST_S_DEFAULT
    lease_s: int = LEASE_S
    refusals: Throttle = field(default_factory=Throttle)
    strangers: Room = field(default_factory=Room)
    # Bodies beyond bodies.LARGE_BYTES, compressed, in memory at once: at most 16 x 8 MiB.
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    # Whole documents, whose senders are known only after parsing up to 64 MiB.
    documents: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @property
    def pace(self) -> str:
        """What every answer says about the next post: a structured dictionary (RFC 8941)."""
        return f"next_post_s={self.next_post_s}, rescan=?0"

    def now_ns(self) -> int:
        """Server time, which orders everything."""
        return time.time_ns()

    async def durable(self, future: Future[T]) -> T:
        """The answer of a write, once it is on disk.

        Raises:
            errors.StoreError: nothing was written.
        """
        try:
            async with asyncio.timeout(_DURABLE_S):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise errors.StoreUnavailableError(f"not durable after {_DURABLE_S:.0f} s") from error


def collector_of(request: AnyRequest) -> Collector:
    """The collector that serves this request."""
    collector = request.app.state.collector
    assert isinstance(collector, Collector)
    return collector
