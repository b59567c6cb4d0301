# SPDX-License-Identifier: Apache-2.0
"""What does the collector say when it is itself at fault?"""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from agent.model import wire
from fleet import errors
from fleet.authority import create_authority
from fleet.collector import app, edge, logs
from fleet.collector.service import Collector
from fleet.config import DataDir
from fleet.enroll import ensure_pseudonym_key
from fleet.store import Store, open_store
from fleet.store.records import Host

SECRET = "postgresql://fleet:hunter2@db/fleet"


@dataclass
class Broken:
    """A collector whose store fails as told; everything else is real."""

    collector: Collector
    log: io.StringIO = field(default_factory=io.StringIO)

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=app.build(self.collector), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="https://collector") as client:
                return await client.get(path)

        return asyncio.run(ask())


class _FailingStore:
    """Fails every write with that error; passes all else on."""

    def __init__(self, store: Store, error: Exception) -> None:
        self._store = store
        self._error = error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)

    def check_writable(self, *, now_ns: int) -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(self._error)
        return future

    def host(self, host_id: str) -> Host | None:
        raise self._error


@pytest.fixture
def broken(data: DataDir, request: pytest.FixtureRequest) -> Iterator[Broken]:
    """A collector with the error that the test names."""
    data.create()
    store = open_store(data.database, create=True)
    found = Broken(
        Collector(
            store=_FailingStore(store, request.param),
            authority=create_authority(data.ca, dt.datetime.now(dt.UTC)),
            pseudonym_key=ensure_pseudonym_key(data.pseudonym_key),
        )
    )
    logs.configure(found.log)
    yield found
    structlog.reset_defaults()
    store.close()


@pytest.mark.parametrize(
    "broken", [ValueError(f"cannot reach {SECRET}"), errors.StoreError(SECRET)], indirect=True
)
def test_a_failure_of_ours_tells_the_sender_nothing_of_us(broken: Broken) -> None:
    """No trace, no name of a file, no value leaves the house; the log has what an operator needs."""
    # Given a collector that fails / When it is asked
    answer = broken.get("/readyz")
    # Then the answer is a problem in our words
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["type"] == "urn:cryptofleet:problem:internal"
    assert answer.headers[wire.PACE_HEADER]
    assert SECRET not in answer.text
    assert "Error" not in answer.text
    # And the log has the cause
    (event,) = [json.loads(line) for line in broken.log.getvalue().splitlines() if '"failed"' in line]
    assert "health.py" in event["exception"]


@pytest.mark.parametrize("broken", [errors.StoreUnavailableError("database or disk is full")], indirect=True)
def test_what_passes_by_itself_is_answered_with_when_to_come_again(broken: Broken) -> None:
    """A full disk is no permanent refusal: agents keep what they have and come back."""
    answer = broken.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:cryptofleet:problem:unavailable"
    assert answer.headers["retry-after"] == "30"


@pytest.mark.parametrize("broken", [ValueError("never seen")], indirect=True)
def test_more_requests_than_there_is_room_for_are_sent_away(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an answer, so that agents wait their time instead of trying at once."""
    monkeypatch.setattr(edge, "_REQUESTS_MAX", 0)
    answer = broken.get("/healthz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.headers[wire.PACE_HEADER]


def test_a_log_that_cannot_be_written_costs_no_answer() -> None:
    """A log on a full disk must not turn into refused posts."""
    # Given a stream that loses everything / When something is told / Then the teller does not fail
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, which is the point
    logs.configure(full)
    structlog.get_logger("collector").info("refused", status=404)
    structlog.reset_defaults()
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_what_the_event_loop_repeats_is_told_once() -> None:
    """Out of descriptors it repeats itself thousands of times a second; the log must not fill the disk."""
    # Given a log / When the loop says the same of many events, then something else, then the same again
    log = io.StringIO()
    logs.configure(log)
    loop = logging.getLogger("asyncio")
    for number in range(100):
        loop.error("socket.accept() out of system resource\nhandle: %s", number)
    loop.error("something else")
    loop.error("socket.accept() out of system resource")
    structlog.reset_defaults()
    # Then each is there once for each time that it was news
    said = [json.loads(line)["event"].partition("\n")[0] for line in log.getvalue().splitlines()]
    accept = "socket.accept() out of system resource"
    assert said == [accept, "something else", accept]
