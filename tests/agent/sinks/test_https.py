# SPDX-License-Identifier: Apache-2.0
"""A post from beginning to end, against a server that answers as a collector might, and as none should."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import errors
from agent.model import canonical, limits, wire
from agent.model.inventory import decode_manifest
from agent.posting import enrolment, last_post
from agent.posting.identity import HostKey
from agent.posting.spool import Spool, Spooled
from agent.settings import Collector
from agent.sinks import Context, Receipt, https
from agent.state import StateDirectory
from tests.agent.given import PSEUDONYM_KEY, draft, enrolled, fixture_host
from tests.agent.loopback import NOW, YEAR, Authority, Reply, Request, Server, pem_body, serving

PACE = {wire.PACE_HEADER: "next_post_s=900, rescan=?1"}


def body_of(request: Request) -> bytes:
    """What a request's body says, its digest checked over what was sent."""
    sent = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    assert request.headers["content-digest"] == f"sha-256=:{sent}:"
    return (
        gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    )


def state_of(request: Request) -> dict[str, Any]:
    """A posted state."""
    found: dict[str, Any] = json.loads(body_of(request))
    return found


class Collects:
    """The posting half of a collector. `script` answers first, as long as it lasts."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.states: list[dict[str, Any]] = []
        self.accepted = 0
        self.script: list[Reply | Callable[[Request], Reply]] = []

    def __call__(self, request: Request) -> Reply:
        assert f'keyid="{self.host_id}"' in request.headers["signature-input"]
        if self.script:
            step = self.script.pop(0)
            return step(request) if callable(step) else step
        if request.path.startswith("/v1/parts/"):
            digest = request.path.rpartition("/")[2]
            assert canonical.digest(body_of(request)) == digest
            self.parts[digest] = body_of(request)
            return Reply(204, b"", PACE)
        assert request.path == f"/v1/hosts/{self.host_id}/state"
        state = state_of(request)
        seq = state["manifest"]["seq"]
        if seq <= self.accepted:
            return Reply(409, canonical.encode(wire.problem("state-ahead", seq=self.accepted)), PACE)
        named = {
            digest
            for section in state["manifest"]["sections"].values()
            for digest in section["parts"].values()
        }
        if missing := tuple(sorted(named - self.parts.keys())):
            return Reply(202, canonical.encode(wire.MissingReply(missing=missing)), PACE)
        same = bool(self.states) and self.states[-1]["manifest"]["sections"] == state["manifest"]["sections"]
        self.states.append(state)
        self.accepted = seq
        return Reply(204, b"", PACE) if same else Reply(200, canonical.encode(wire.StateReply(seq=seq)), PACE)

    host_id = ""


@pytest.fixture(scope="module")
def ca() -> Authority:
    """The collector's CA."""
    return Authority()


@pytest.fixture
def collects() -> Collects:
    """A collector."""
    return Collects()


@pytest.fixture
def server(ca: Authority, collects: Collects, tmp_path: Path) -> Iterator[Server]:
    """It, serving."""
    with serving(ca.issue(tmp_path / "server.pem"), collects) as found:
        yield found


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """The host's state directory."""
    with StateDirectory(str(tmp_path / "agent")) as found:
        yield found


@pytest.fixture
def key(state: StateDirectory, server: Server, collects: Collects, ca: Authority) -> HostKey:
    """The host is enrolled; its key."""
    _, key = enrolled(state, server.url, ca.pem)
    collects.host_id = key.host_id
    return key


@pytest.fixture
def context(state: StateDirectory, key: HostKey, tmp_path: Path) -> Context:
    """What the sink is given."""
    return Context(host=fixture_host(tmp_path), collector=Collector(timeout_s=10), state=state)


@pytest.fixture
def spool(state: StateDirectory, key: HostKey) -> Spool:
    """The host's spool."""
    return Spool(state, key)


def send(context: Context, *libraries: str) -> Receipt:
    """Post an inventory with these libraries."""
    return https.send(draft(*libraries), https.Settings(), context)


def paths(server: Server) -> list[str]:
    """What was asked for, digests left out."""
    return [
        "part" if request.path.startswith("/v1/parts/") else request.path.rpartition("/")[2]
        for request in server.requests
    ]


def test_the_state_goes_first_then_the_parts_that_are_missing_then_the_state_again(
    context: Context, server: Server, collects: Collects, spool: Spool
) -> None:
    """Nothing waits any more afterwards, and the collector's wishes are told."""
    receipt = send(context, "libssl")

    assert paths(server) == ["state", "part", "state"]
    assert (receipt.where, receipt.outcome, receipt.seq) == (server.url, "accepted", 1)
    assert (receipt.next_post_s, receipt.rescan, receipt.clock_doubt) == (900, True, None)
    assert spool.load() is None
    assert collects.states[0]["live"] == {"libraries": {"mapped": 3}}
    # Both puts of the state are the same to the byte: a 202 uses up no number.
    assert server.requests[0].body == server.requests[2].body


def test_a_part_that_the_collector_has_is_not_sent(context: Context, server: Server) -> None:
    """An unchanged host costs one request."""
    send(context, "libssl")
    server.requests.clear()

    assert send(context, "libssl").outcome == "unchanged"
    assert paths(server) == ["state"]


def test_bodies_are_compressed_json_of_known_length(context: Context, server: Server) -> None:
    """And all of them are signed."""
    send(context, *(f"lib{number}" for number in range(50)))

    for request in server.requests:
        assert request.headers["content-type"] == "application/json"
        assert request.headers["content-encoding"] == "gzip"
        assert int(request.headers["content-length"]) == len(request.body)
        assert request.headers["signature-input"].startswith(
            'cryptofleet=("@method" "@path" "content-digest")'
        )
    assert len(server.requests[1].body) < len(body_of(server.requests[1])) / 2


def test_what_compresses_like_a_bomb_is_sent_as_it_is(context: Context, server: Server) -> None:
    """The collector refuses bodies that expand too far, and a host can hold such names."""
    https.send(draft("libssl", padding="x" * 60_000), https.Settings(), context)

    part = server.requests[1]
    assert "content-encoding" not in part.headers
    for request in server.requests:
        assert len(body_of(request)) <= limits.EXPANSION_RATIO_MAX * len(request.body)


def test_what_did_not_arrive_waits_and_is_resumed_to_the_byte(
    context: Context, state: StateDirectory, server: Server, collects: Collects, spool: Spool
) -> None:
    """The same number with the same manifest: a lost reply is no second state."""
    collects.script = [Reply(503, b"", {"Retry-After": "7"})]
    with pytest.raises(errors.UnreachableError) as caught:
        send(context, "libssl")
    assert caught.value.retry_after_s == 7
    assert spool.load() is not None
    assert "503" in (last_post.load(state).failure or "")

    receipt = https.resume(context)

    assert receipt is not None
    assert receipt.seq == 1
    assert server.requests[0].body == server.requests[1].body
    assert https.resume(context) is None
    noted = last_post.load(state)
    assert (noted.outcome, noted.seq, noted.failure) == (receipt.outcome, 1, None)


def test_a_reply_that_was_lost_is_asked_for_again(
    context: Context, collects: Collects, server: Server
) -> None:
    """The collector took the state, and the line broke before it could say so."""
    taken: list[Reply] = []

    def take_and_hang_up(request: Request) -> Reply:
        taken.append(collects(request))
        return Reply(None)

    collects.parts = dict(draft("libssl").parts)
    collects.script = [take_and_hang_up]
    with pytest.raises(errors.UnreachableError):
        send(context, "libssl")
    assert taken[0].status == 200
    # This collector does not know a repetition when it sees one; a real one answers as before.
    receipt = https.resume(context)
    assert receipt is not None
    assert (receipt.outcome, receipt.seq) == ("unchanged", 2)


def test_what_was_lost_meanwhile_is_told_with_the_next_post_and_only_with_it(
    context: Context, collects: Collects
) -> None:
    """No silent loss, and no loss told for ever."""
    collects.script = [Reply(503), Reply(503)]
    for name in ("one", "two"):
        with pytest.raises(errors.UnreachableError):
            send(context, name)

    send(context, "three")
    send(context, "four")

    assert collects.states[0]["live"] == {"libraries": {"mapped": 3}, "spool": {"replaced": 2}}
    assert collects.states[1]["live"] == {"libraries": {"mapped": 3}}


def test_a_collector_that_is_ahead_is_caught_up_with_once(
    context: Context, collects: Collects, server: Server, spool: Spool
) -> None:
    """After a restored backup of the host, or a lost counter: the same state under the next number."""
    collects.accepted = 41
    receipt = send(context, "libssl")

    assert receipt.seq == 42
    assert paths(server) == ["state", "state", "part", "state"]
    assert collects.states[0]["manifest"]["seq"] == 42
    assert spool.counts().seq == 42
    assert send(context, "libssl").seq == 43


def test_a_collector_that_is_ahead_twice_means_a_copy_of_this_host(
    context: Context, collects: Collects, spool: Spool
) -> None:
    """Two agents with one key would otherwise race for ever."""

    def ahead(request: Request) -> Reply:
        seq = state_of(request)["manifest"]["seq"]
        return Reply(409, canonical.encode(wire.problem("state-ahead", seq=seq + 5)))

    collects.script = [ahead, ahead]
    with pytest.raises(errors.UnreachableError, match="another agent posts with a copy"):
        send(context, "libssl")
    assert collects.script == []
    waiting = spool.load()
    assert waiting is not None
    assert waiting.seq == 7


@pytest.mark.parametrize("seq", [-1, 0, 2**53 - 1, 2**53, 2**62])
def test_a_number_that_makes_no_sense_is_not_followed(context: Context, collects: Collects, seq: int) -> None:
    """It could wear out all the numbers there are."""
    body = canonical.encode(wire.problem("state-ahead", seq=seq))
    collects.script = [Reply(409, body)]

    with pytest.raises(errors.UnreachableError, match="no sensible number"):
        send(context, "libssl")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"missing":[]}',
        b'{"missing":["x"]}',
        b'{"missing":"%s"}',
        b'{"missing":["sha256:' + b"0" * 64 + b'"]}',
    ],
)
def test_parts_that_are_not_ours_are_not_looked_for(
    context: Context, collects: Collects, body: bytes
) -> None:
    """A 202 names parts of this state or is none."""
    collects.script = [Reply(202, body)]

    with pytest.raises(errors.UnreachableError, match=r"does not say which|none of this state's"):
        send(context, "libssl")


def test_a_collector_that_forgets_parts_is_not_fed_for_ever(
    context: Context, collects: Collects, server: Server
) -> None:
    """Rounds are bounded; it may do better later."""
    (digest,) = draft("libssl").parts
    missing = Reply(202, canonical.encode(wire.MissingReply(missing=(digest,))))
    collects.script = [missing, Reply(204)] * 20

    with pytest.raises(errors.UnreachableError, match="keeps asking"):
        send(context, "libssl")
    assert len(server.requests) == 8


@pytest.mark.parametrize("status", [400, 413, 415, 422])
@pytest.mark.parametrize("at", ["state", "part"])
def test_content_that_is_refused_is_set_aside_and_not_sent_again(
    context: Context, collects: Collects, spool: Spool, state: StateDirectory, status: int, at: str
) -> None:
    """It would be refused each time; the next inventory tells that one was."""
    (digest,) = draft("libssl").parts
    missing = Reply(202, canonical.encode(wire.MissingReply(missing=(digest,))))
    name = {400: "malformed", 413: "too-large", 415: "unsupported-schema", 422: "inconsistent"}[status]
    refusal = Reply(status, canonical.encode(wire.problem(name, "for a reason")))
    collects.script = [refusal] if at == "state" else [missing, refusal]

    with pytest.raises(errors.RefusedError, match="for a reason"):
        send(context, "libssl")

    assert spool.load() is None
    assert https.resume(context) is None
    assert len(list(Path(state.path, "quarantine").iterdir())) == 1
    send(context, "libcrypto")
    assert collects.states[0]["live"]["spool"] == {"refused": 1}


def test_content_that_is_refused_after_it_was_numbered_anew_is_set_aside_too(
    context: Context, collects: Collects, spool: Spool
) -> None:
    """It is the later one that waits by then."""
    ahead = Reply(409, canonical.encode(wire.problem("state-ahead", seq=9)))
    collects.script = [ahead, Reply(422, canonical.encode(wire.problem("inconsistent")))]

    with pytest.raises(errors.RefusedError):
        send(context, "libssl")
    assert spool.load() is None


@pytest.mark.parametrize("name", ["forbidden", "not-found"])
def test_a_host_that_is_refused_keeps_its_state(
    context: Context, collects: Collects, spool: Spool, name: str
) -> None:
    """Its content is not why; it may be let in again."""
    collects.script = [Reply(wire.PROBLEMS[name][0], canonical.encode(wire.problem(name)))]

    with pytest.raises(errors.RefusedError):
        send(context, "libssl")
    assert spool.load() is not None


def test_a_state_that_was_replaced_while_it_was_posted_does_not_take_the_later_one_along(
    context: Context, collects: Collects, spool: Spool
) -> None:
    """Another process of this agent may have spooled a newer one."""
    later: list[Spooled] = []

    def meanwhile(request: Request) -> Reply:
        later.append(spool.put(draft("newer")))
        return collects(request)

    collects.parts = dict(draft("libssl").parts)
    collects.script = [meanwhile]
    assert send(context, "libssl").seq == 1

    assert spool.load() == later[0]


def test_an_expired_certificate_is_borne_and_told(
    context: Context, server: Server, ca: Authority, tmp_path: Path
) -> None:
    """Once per post: the connection is kept."""
    server.use(ca.issue(tmp_path / "expired.pem", begins=NOW - 2 * YEAR, ends=NOW - YEAR))

    receipt = send(context, "libssl")

    assert receipt.outcome == "accepted"
    assert receipt.clock_doubt is not None
    assert "expired" in receipt.clock_doubt


def test_another_ca_gets_nothing_and_the_state_waits(
    context: Context, server: Server, spool: Spool, tmp_path: Path
) -> None:
    """Whoever answers at that address."""
    server.use(Authority().issue(tmp_path / "other.pem"))

    with pytest.raises(errors.UnreachableError, match="is not the collector this host trusts"):
        send(context, "libssl")
    assert server.requests == []
    assert spool.load() is not None


def test_a_ca_that_was_announced_is_followed(
    context: Context, server: Server, collects: Collects, state: StateDirectory, ca: Authority, tmp_path: Path
) -> None:
    """The collector changed its CA as it had said it would; the fleet goes on by itself."""
    after = Authority("next")
    enrolled(state, server.url, ca.pem, pins=(ca.pin, after.pin))
    server.use(after.issue(tmp_path / "after.pem"))
    server.answer = lambda request: Reply(200, after.pem) if request.path == "/v1/ca" else collects(request)

    assert send(context, "libssl").outcome == "accepted"
    assert enrolment.require(state).ca_pem == after.pem
    assert paths(server) == ["ca", "state", "part", "state"]


def test_a_host_that_is_not_enrolled_or_has_lost_its_key_is_told_so(
    context: Context, state: StateDirectory, spool: Spool, tmp_path: Path
) -> None:
    """And makes no new key: it would be another host."""
    state.write("host.key", b"x")
    with pytest.raises(errors.StateError, match="holds no Ed25519 key"):
        send(context)
    state.remove("host.key")
    with pytest.raises(errors.StateError, match="is not that of"):
        send(context)
    state.remove("enrolment.json")
    with pytest.raises(errors.ConfigError, match="not enrolled"):
        send(context)
    with pytest.raises(errors.ConfigError, match="this run has none"):
        send(Context(host=context.host, collector=context.collector))
    assert state.read("host.key", 100) is None


def test_no_failure_and_no_log_shows_a_key(
    context: Context,
    collects: Collects,
    server: Server,
    state: StateDirectory,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Neither the host's nor the pseudonym key, whatever happens to a post."""
    caplog.set_level(logging.DEBUG)
    private = pem_body(Path(state.path, "host.key").read_bytes())
    planted = [private, private[24:56], base64.b64decode(private)[-32:].hex(), PSEUDONYM_KEY]
    shown: list[str] = []

    def attempt() -> None:
        try:
            shown.append(repr(send(context, "libssl")))
        except errors.AgentError as error:
            shown.extend([str(error), repr(error), *traceback.format_exception(error)])

    for status in (202, 204, 302, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503, None):
        collects.script = [Reply(status, PSEUDONYM_KEY.encode())]
        attempt()
    server.use(Authority().issue(tmp_path / "other.pem"))
    attempt()
    state.write("spool", b"damaged")
    attempt()
    state.write("enrolment.json", b'{"pseudonym_key":"' + PSEUDONYM_KEY.encode() + b'"')
    attempt()
    state.write("host.key", Path(state.path, "host.key").read_bytes()[:-30])
    attempt()

    assert len(shown) > 50
    for words in (*shown, caplog.text):
        for secret in planted:
            assert secret not in words
    for name in ("spool", "counter"):
        assert PSEUDONYM_KEY.encode() not in (state.read(name, 10**6) or b"")


def test_the_manifest_that_arrives_is_the_one_that_was_signed(
    context: Context, collects: Collects, server: Server, key: HostKey
) -> None:
    """To the byte, inside an envelope of JSON."""
    from agent.model.inventory import Signature
    from agent.posting import signing

    send(context, "libssl")

    body = body_of(server.requests[0])
    state = collects.states[0]
    start = body.index(b'"manifest":') + len(b'"manifest":')
    manifest = body[start : body.index(b',"signature":')]
    assert signing.is_signed(manifest, Signature(**state["signature"]))
    assert decode_manifest(manifest).host.host_id == key.host_id
