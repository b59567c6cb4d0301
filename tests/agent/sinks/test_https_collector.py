# SPDX-License-Identifier: Apache-2.0
"""The agent's way to the collector, against the real one: `fleet serve` in a process of its own, over TLS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent import errors
from agent.host import Host
from agent.posting import enrolment
from agent.posting.spool import Spool
from agent.secret import Secret
from agent.settings import Collector
from agent.sinks import Context, Receipt, file, https
from agent.state import StateDirectory
from fleet.config import DataDir
from fleet.store import Store, open_store
from tests.agent.given import draft
from tests.agent.sinks import https_lives
from tests.fleet.running import Running, running, start

YEAR_NS = 365 * 24 * 3600 * 10**9


class Clock(Host):
    """A host whose clock is this far off."""

    def __init__(self, root: str, off_ns: int) -> None:
        super().__init__(root)
        self._off_ns = off_ns

    def now_ns(self) -> int:
        return super().now_ns() + self._off_ns


@dataclass
class Agent:
    """A host that knows a collector."""

    collector: Running
    context: Context

    @property
    def state(self) -> StateDirectory:
        assert self.context.state is not None
        return self.context.state

    @property
    def host_id(self) -> str:
        return enrolment.require(self.state).host_id

    @property
    def spool(self) -> Spool:
        return https._Post(self.context).spool

    def send(self, *libraries: str, padding: str = "") -> Receipt:
        return https.send(draft(*libraries, padding=padding), https.Settings(), self.context)

    def store(self) -> Store:
        return open_store(self.collector.data.database)

    def libraries(self) -> dict[str, bytes]:
        """The parts of this host's state, as the collector holds them."""
        store = self.store()
        try:
            found = store.manifest(self.host_id)
            assert found is not None
            sections = json.loads(found[0])["sections"]
            return {
                digest: store.part(digest) or b""
                for section in sections.values()
                for digest in section["parts"].values()
            }
        finally:
            store.close()


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector, shared."""
    with running(DataDir(tmp_path_factory.mktemp("fleet") / "collector")) as found:
        yield found


def enrol(
    collector: Running, state: StateDirectory, token: str, off_ns: int = 0
) -> tuple[enrolment.Enrolment, str | None]:
    """Enrol with the pin, as an operator does."""
    way = Collector(url=collector.url, pin=collector.pin, timeout_s=20)
    clock = Clock("/", off_ns)
    return enrolment.enrol(state, way, Secret(token), hostname="web7", clock_ns=clock.now_ns)


@pytest.fixture
def agent(collector: Running, tmp_path: Path) -> Iterator[Agent]:
    """A host that was just enrolled there."""
    with StateDirectory(str(tmp_path / "agent")) as state:
        enrol(collector, state, collector.token())
        yield Agent(
            collector, Context(host=Host(str(tmp_path)), collector=Collector(timeout_s=20), state=state)
        )


def test_an_inventory_arrives_to_the_byte(agent: Agent) -> None:
    """Parts, manifest and signature are kept as they were made."""
    given = draft("libssl", "libcrypto")
    spooled = agent.spool.put(given)

    receipt = https.resume(agent.context)

    assert receipt is not None
    assert (receipt.outcome, receipt.seq, receipt.clock_doubt) == ("accepted", 1, None)
    assert receipt.next_post_s == 3600
    store = agent.store()
    try:
        kept = store.manifest(agent.host_id)
    finally:
        store.close()
    assert kept is not None
    assert kept[0] == spooled.manifest
    assert agent.libraries() == given.parts
    assert agent.spool.load() is None


def test_a_document_carried_by_hand_is_taken(agent: Agent, tmp_path: Path) -> None:
    """What the file sink writes is what the collector takes as a whole document, once, and in its place."""
    path = tmp_path / "carried.json"
    file.send(draft("libssl"), file.Settings(path=str(path)), agent.context)

    with agent.collector.client() as client:
        headers = {"Content-Type": "application/json"}
        answers = [
            client.post("/v1/inventories", content=path.read_bytes(), headers=headers) for _ in range(2)
        ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert agent.libraries() == draft("libssl").parts
    assert agent.send("libssl").seq == 2


def test_a_second_post_of_the_same_is_unchanged_and_of_another_is_not(agent: Agent) -> None:
    """What the collector has is not sent again."""
    outcomes = [agent.send("libssl"), agent.send("libssl"), agent.send("libcrypto")]

    assert [(receipt.outcome, receipt.seq) for receipt in outcomes] == [
        ("accepted", 1),
        ("unchanged", 2),
        ("accepted", 3),
    ]
    assert agent.libraries() == draft("libcrypto").parts


def test_enrolling_again_with_the_same_token_gives_the_same(collector: Running, tmp_path: Path) -> None:
    """A token for one host is not spent by that host's second try."""
    token = collector.token(uses=1)
    with StateDirectory(str(tmp_path / "one")) as state:
        first = enrol(collector, state, token)
        assert enrol(collector, state, token) == first
    with StateDirectory(str(tmp_path / "two")) as state:
        with pytest.raises(errors.RefusedError) as caught:
            enrol(collector, state, token)
        assert caught.value.problem == "bad-token"
        assert token not in str(caught.value)
        assert enrolment.load(state) is None


def test_a_token_that_never_was_is_refused(collector: Running, tmp_path: Path) -> None:
    """For good: trying again does not make it one."""
    with (
        StateDirectory(str(tmp_path / "agent")) as state,
        pytest.raises(errors.RefusedError, match="fleet token create"),
    ):
        enrol(collector, state, "cft_" + "x" * 43)


@pytest.mark.parametrize("years", [-25, 25])
def test_a_host_whose_clock_is_years_off_enrols_and_posts(
    collector: Running, tmp_path: Path, years: int
) -> None:
    """The time in its signatures is recorded, and nothing depends on it."""
    off_ns = years * YEAR_NS
    with StateDirectory(str(tmp_path / "agent")) as state:
        enrol(collector, state, collector.token(), off_ns)
        context = Context(host=Clock("/", off_ns), collector=Collector(timeout_s=20), state=state)

        assert https.send(draft("libssl"), https.Settings(), context).outcome == "accepted"
        assert https.send(draft("libssl"), https.Settings(), context).outcome == "unchanged"


def test_a_lost_reply_is_no_second_state(agent: Agent) -> None:
    """The same number with the same bytes gets the same answer, and no conflict."""
    spooled = agent.spool.put(draft("libssl"))
    post = https._Post(agent.context)

    first, second = post.deliver(spooled), post.deliver(spooled)

    assert (first.seq, second.seq) == (1, 1)
    assert second.outcome in ("accepted", "unchanged")
    assert agent.send("libssl").seq == 2


def test_a_host_that_lost_its_counter_goes_on(agent: Agent) -> None:
    """As after a restored backup: the collector tells the number, the host follows."""
    for name in "abc":
        agent.send(name)
    agent.state.remove("counter")

    receipt = agent.send("d")

    assert (receipt.outcome, receipt.seq) == ("accepted", 4)
    assert agent.libraries() == draft("d").parts
    assert agent.send("e").seq == 5


def test_a_part_that_compresses_like_a_bomb_is_taken(agent: Agent) -> None:
    """Honest content can look like one."""
    assert agent.send("libssl", padding="x" * 60_000).outcome == "accepted"
    assert agent.libraries() == draft("libssl", padding="x" * 60_000).parts


def test_a_large_inventory_is_taken(agent: Agent) -> None:
    """Twenty thousand entries, near the limit of one part."""
    given = draft(*(f"library-number-{number:05}" for number in range(20_000)), padding="1.2.3" * 30)
    (part,) = given.parts.values()
    assert len(part) > 5_000_000

    assert https.send(given, https.Settings(), agent.context).outcome == "accepted"
    assert agent.libraries() == given.parts


def test_a_revoked_host_is_refused_and_keeps_its_state(agent: Agent) -> None:
    """It says who can change that."""
    agent.send("libssl")
    store = agent.store()
    try:
        assert store.revoke_host(agent.host_id, actor="test", now_ns=1).result()
    finally:
        store.close()

    with pytest.raises(errors.RefusedError, match="revoked") as caught:
        agent.send("libcrypto")
    assert caught.value.problem == "forbidden"
    assert agent.spool.load() is not None


def test_through_a_killed_and_restarted_collector_the_latest_state_arrives(tmp_path: Path) -> None:
    """What was answered before is there after; what was not waits, and the losses between are told."""
    # Given a host that has posted once
    data = DataDir(tmp_path / "collector")
    before = start(data, log=tmp_path / "log")
    try:
        with StateDirectory(str(tmp_path / "agent")) as state:
            enrol(before, state, before.token())
            agent = Agent(
                before, Context(host=Host(str(tmp_path)), collector=Collector(timeout_s=20), state=state)
            )
            agent.send("one")
            # When its collector is killed, and two posts fail
            before.kill()
            for name in ("two", "three"):
                with pytest.raises(errors.UnreachableError):
                    agent.send(name)
            # Then the collector, back at its address, still has the first and gets the last
            after = start(data, listen=f"127.0.0.1:{urlsplit(before.url).port}", log=tmp_path / "log")
            try:
                agent.collector = after
                assert agent.libraries() == draft("one").parts
                receipt = https.resume(agent.context)
                assert receipt is not None
                assert (receipt.outcome, receipt.seq) == ("accepted", 3)
                assert agent.libraries() == draft("three").parts
                assert agent.spool.counts().losses() == {}
            finally:
                after.stop()
    finally:
        if before.process.stdout is not None:
            before.process.stdout.close()


@pytest.mark.slow
def test_an_agent_that_is_killed_at_any_moment_of_a_post_is_caught_up_with(agent: Agent) -> None:
    """At least once is posted, and the state is there once: no conflict, no gap, the latest wins."""
    done = subprocess.run(
        [sys.executable, https_lives.__file__, agent.state.path], check=True, capture_output=True, text=True
    )
    lives = [json.loads(line) for line in done.stdout.splitlines()]

    assert len(lives) > 30
    # Killed before it was spooled or after it was forgotten: nothing to post. In between: it arrives, and
    # what had arrived before the kill is answered as it was the first time.
    assert {life["outcome"] for life in lives} == {None, "accepted"}
    numbers = [life["seq"] for life in lives if life["seq"] is not None]
    assert numbers == sorted(set(numbers))
    # The last life was not killed, and what it posted is what the collector has
    assert agent.libraries() == draft(f"library-{lives[-1]['number']}").parts
    assert agent.spool.load() is None
