# SPDX-License-Identifier: Apache-2.0
"""How a host becomes known: the pin first, the token only then, and what came back is kept."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import errors
from agent.model import canonical, wire
from agent.posting import enrolment
from agent.posting.identity import ensure_key, host_id_of
from agent.secret import Secret
from agent.settings import Collector
from agent.state import StateDirectory
from tests.agent.given import PSEUDONYM_KEY
from tests.agent.loopback import NOW, YEAR, Authority, Proxy, Reply, Request, Server, pem_body, serving

TOKEN = "cft_a-token-for-tests-and-nothing-else"


def clock_ns() -> int:
    """A clock that stands."""
    return 1_795_000_000_000_000_000


class Collects:
    """The enrolling half of a collector."""

    def __init__(self, ca: Authority) -> None:
        self.ca = ca
        self.pins: tuple[str, ...] = (ca.pin,)
        self.reply: Reply | None = None

    def __call__(self, request: Request) -> Reply:
        if request.path == "/v1/ca":
            return Reply(200, self.ca.pem)
        if self.reply is not None:
            return self.reply
        asked = msgspec.json.decode(request.body, type=wire.EnrollRequest)
        raw = base64.b64decode(asked.public_key)
        Ed25519PublicKey.from_public_bytes(raw).verify(
            base64.b64decode(asked.proof), b"enroll:" + asked.token.encode()
        )
        return Reply(201, self.answer(host_id_of(raw)))

    def answer(self, host_id: str, **other: object) -> bytes:
        """The body of a good answer, some of it otherwise."""
        members: dict[str, object] = {
            "host_id": host_id,
            "pseudonym_key": PSEUDONYM_KEY,
            "pseudonym_key_id": "p-1",
            "ca_pins": self.pins,
            "server_time": canonical.timestamp(0),
            "next_post_s": 900,
        }
        return json.dumps(members | other).encode()


@pytest.fixture(scope="module")
def ca() -> Authority:
    """The collector's CA."""
    return Authority()


@pytest.fixture
def collects(ca: Authority) -> Collects:
    """A collector that takes every token."""
    return Collects(ca)


@pytest.fixture
def server(ca: Authority, collects: Collects, tmp_path: Path) -> Iterator[Server]:
    """It, serving."""
    with serving(ca.issue(tmp_path / "server.pem"), collects) as found:
        yield found


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """A host's state directory."""
    with StateDirectory(str(tmp_path / "agent")) as found:
        yield found


def enrol(
    state: StateDirectory,
    url: str,
    *,
    pin: str | None = None,
    ca_file: str | None = None,
    proxy: Secret | None = None,
) -> tuple[enrolment.Enrolment, str | None]:
    """Enrol this host."""
    way = Collector(url=url, pin=pin, ca_file=ca_file, proxy=proxy, timeout_s=10)
    return enrolment.enrol(state, way, Secret(TOKEN), hostname="web7", clock_ns=clock_ns)


def test_a_host_with_the_right_pin_is_enrolled_and_remembers_it(
    state: StateDirectory, server: Server, ca: Authority
) -> None:
    """The token goes over the verified connection only; a later process finds all that was given."""
    found, clock_doubt = enrol(state, server.url + "/", pin=ca.pin)

    assert clock_doubt is None
    assert enrolment.load(state) == enrolment.require(state) == found
    assert (found.url, found.host_id) == (server.url, ensure_key(state).host_id)
    assert (found.ca_pem, found.ca_pins, found.next_post_s) == (ca.pem, (ca.pin,), 900)
    assert found.pseudonym_bytes() == base64.b64decode(PSEUDONYM_KEY)
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/v1/ca"),
        ("POST", "/v1/enroll"),
    ]
    assert json.loads(server.requests[1].body)["hostname"] == "web7"
    assert os.stat(f"{state.path}/enrolment.json").st_mode & 0o777 == 0o600


def test_doing_it_again_gives_the_same(state: StateDirectory, server: Server, ca: Authority) -> None:
    """The same key and token in the same words, so that the collector can see that it is a repetition."""
    first, _ = enrol(state, server.url, pin=ca.pin)
    second, _ = enrol(state, server.url, pin=ca.pin)

    assert first == second
    assert server.requests[1].body == server.requests[3].body


def test_a_wrong_pin_ends_it_before_the_token_is_sent(state: StateDirectory, server: Server) -> None:
    """Both pins are named; nothing of the host was told."""
    other = Authority()

    with pytest.raises(errors.CollectorError, match="is not the CA that was pinned") as caught:
        enrol(state, server.url, pin=other.pin)

    assert other.pin in str(caught.value)
    assert [request.path for request in server.requests] == ["/v1/ca"]
    assert enrolment.load(state) is None


def test_somebody_in_between_with_the_right_certificate_but_not_its_key_gets_no_token(
    state: StateDirectory, ca: Authority, tmp_path: Path
) -> None:
    """The CA certificate is public: who hands it out need not be the collector."""
    liar = Authority()
    with (
        serving(liar.issue(tmp_path / "server.pem"), Collects(ca)) as server,
        pytest.raises(errors.UnreachableError, match="is not the collector this host trusts"),
    ):
        enrol(state, server.url, pin=ca.pin)
    assert [request.path for request in server.requests] == ["/v1/ca"]


def test_of_several_certificates_only_the_pinned_one_is_trusted(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is in between could add his own to the right one."""
    both = Authority().pem + ca.pem
    monkeypatch.setattr(Authority, "pem", both)

    found, _ = enrol(state, server.url, pin=ca.pin)

    assert both.endswith(found.ca_pem)
    assert found.ca_pem.count(b"BEGIN CERTIFICATE") == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_not_pinned(
    state: StateDirectory, ca: Authority, tmp_path: Path, body: bytes
) -> None:
    """Any web server may stand at that address."""
    with (
        serving(ca.issue(tmp_path / "server.pem"), lambda _request: Reply(200, body)) as server,
        pytest.raises(errors.CollectorError, match="is no certificate"),
    ):
        enrol(state, server.url, pin=ca.pin)


def test_with_a_ca_file_nothing_is_fetched_unverified(
    state: StateDirectory, server: Server, ca: Authority, tmp_path: Path
) -> None:
    """And of the file only the certificates are kept: people keep keys in such files."""
    file = tmp_path / "ca.pem"
    file.write_bytes((tmp_path / "server.pem").read_bytes() + ca.pem)

    found, _ = enrol(state, server.url, ca_file=str(file))

    assert [request.path for request in server.requests] == ["/v1/enroll"]
    assert found.ca_pem.endswith(ca.pem)
    assert b"PRIVATE" not in found.ca_pem
    assert b"PRIVATE" not in Path(state.path, "enrolment.json").read_bytes()


def test_a_ca_file_is_held_against_a_pin_that_is_given_too(
    state: StateDirectory, server: Server, ca: Authority, tmp_path: Path
) -> None:
    """The file may have come by a way that the operator does not trust."""
    file = tmp_path / "ca.pem"
    file.write_bytes(ca.pem)

    assert enrol(state, server.url, ca_file=str(file), pin=ca.pin)[0].ca_pem == ca.pem
    with pytest.raises(errors.CollectorError, match=r"ca\.pem is not the CA that was pinned"):
        enrol(state, server.url, ca_file=str(file), pin=Authority().pin)


def test_without_pin_or_ca_nobody_is_asked(state: StateDirectory, server: Server, tmp_path: Path) -> None:
    """Trust on first use would be trust in whoever is there first."""
    with pytest.raises(errors.UsageError, match=r"--pin .* or --ca-file"):
        enrol(state, server.url)
    with pytest.raises(errors.UsageError, match="as the pin is none"):
        enrol(state, server.url, pin="sha1:00")
    with pytest.raises(errors.UsageError, match="no collector is named"):
        enrolment.enrol(state, Collector(), Secret(TOKEN), hostname="h", clock_ns=clock_ns)
    with pytest.raises(errors.ConfigError, match="cannot read the CA from"):
        enrol(state, server.url, ca_file=str(tmp_path / "missing"))
    assert server.requests == []


def test_a_host_whose_clock_is_years_off_can_enrol(
    state: StateDirectory, ca: Authority, collects: Collects, tmp_path: Path
) -> None:
    """It is told about its clock."""
    expired = ca.issue(tmp_path / "server.pem", begins=NOW - 2 * YEAR, ends=NOW - YEAR)
    with serving(expired, collects) as server:
        found, clock_doubt = enrol(state, server.url, pin=ca.pin)

    assert found == enrolment.load(state)
    assert clock_doubt is not None
    assert "expired" in clock_doubt


def test_a_proxy_carries_both_connections(state: StateDirectory, server: Server, ca: Authority) -> None:
    """Hosts behind one have no other way."""
    with Proxy() as proxy:
        enrol(state, server.url, pin=ca.pin, proxy=Secret(f"http://127.0.0.1:{proxy.port}"))
    assert len(proxy.asked) == 2


def test_an_enrolment_that_fails_leaves_the_one_before(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority
) -> None:
    """A spent token must not make an enrolled host a stranger."""
    before, _ = enrol(state, server.url, pin=ca.pin)
    collects.reply = Reply(403, canonical.encode(wire.problem("bad-token", "ask for a new token")))

    with pytest.raises(errors.RefusedError, match="ask for a new token") as caught:
        enrol(state, server.url, pin=ca.pin)

    assert caught.value.problem == "bad-token"
    assert enrolment.load(state) == before


@pytest.mark.parametrize(("asked", "kept"), [(0, 60), (-1, 60), (900, 900), (10**9, 7 * 24 * 3600)])
def test_a_pace_that_harms_the_host_or_hides_it_is_bounded(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority, asked: int, kept: int
) -> None:
    """A collector's mistake must not make its agents post without a pause."""
    answer = collects.answer(ensure_key(state).host_id, next_post_s=asked)
    collects.reply = Reply(201, answer)

    assert enrol(state, server.url, pin=ca.pin)[0].next_post_s == kept


BAD_ANSWERS: dict[str, Callable[[Collects, str], bytes]] = {
    "another host's id": lambda to, _: to.answer("h-" + "0" * 32),
    "a short key": lambda to, host_id: to.answer(host_id, pseudonym_key="AAAA"),
    "no key": lambda to, host_id: to.answer(host_id, pseudonym_key="not base64!"),
    "pins that are none": lambda to, host_id: to.answer(host_id, ca_pins=["sha256:zz"]),
    "nothing": lambda _, __: b"",
    "not JSON": lambda _, __: b"<html>",
    "not text": lambda _, __: b"\xff",
    "a list": lambda _, __: b"[]",
    "a number for a name": lambda to, host_id: to.answer(host_id, pseudonym_key_id=7),
}


@pytest.mark.parametrize("kind", list(BAD_ANSWERS))
def test_an_answer_that_is_not_a_collectors_is_not_kept(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority, kind: str
) -> None:
    """Nor quoted: it may hold a key."""
    collects.reply = Reply(201, BAD_ANSWERS[kind](collects, ensure_key(state).host_id))

    with pytest.raises(
        errors.CollectorError, match=r"did not answer as a collector|calls this host"
    ) as caught:
        enrol(state, server.url, pin=ca.pin)

    assert PSEUDONYM_KEY not in str(caught.value)
    assert enrolment.load(state) is None


def test_a_host_that_is_not_enrolled_is_told_how(state: StateDirectory) -> None:
    """The first thing that people run into."""
    assert enrolment.load(state) is None
    with pytest.raises(errors.ConfigError, match="run `fleet-agent enroll`"):
        enrolment.require(state)


def test_a_damaged_enrolment_is_told_and_not_quoted(
    state: StateDirectory, server: Server, ca: Authority
) -> None:
    """It holds a key."""
    enrol(state, server.url, pin=ca.pin)
    data = state.read("enrolment.json", 10**6)
    assert data is not None
    for damaged in (data[:-40], b"", b"\xff", data.replace(b'"next_post_s":900', b'"next_post_s":"x"')):
        state.write("enrolment.json", damaged)
        with pytest.raises(errors.StateError, match="is damaged; enrol this host again") as caught:
            enrolment.load(state)
        shown = "".join(traceback.format_exception(caught.value))
        assert PSEUDONYM_KEY[:20] not in shown


def test_a_changed_ca_certificate_is_learned_when_its_key_was_announced(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority, tmp_path: Path
) -> None:
    """The collector announces the next CA's pin before it changes; the agent follows by itself."""
    after = Authority("next")
    collects.pins = (ca.pin, after.pin)
    found, _ = enrol(state, server.url, pin=ca.pin)
    collects.ca = after

    followed = enrolment.follow_ca(state, found, Collector(timeout_s=10), clock_ns)

    assert followed.ca_pem == after.pem
    assert enrolment.load(state) == followed


def test_a_changed_ca_certificate_that_was_not_announced_changes_nothing(
    state: StateDirectory, server: Server, collects: Collects, ca: Authority
) -> None:
    """Whoever it is."""
    found, _ = enrol(state, server.url, pin=ca.pin)
    collects.ca = Authority()

    with pytest.raises(errors.CollectorError, match="is not the CA that was pinned"):
        enrolment.follow_ca(state, found, Collector(timeout_s=10), clock_ns)
    assert enrolment.load(state) == found


# -- the token


def test_a_token_comes_from_a_file_standard_input_or_the_environment(tmp_path: Path) -> None:
    """In that order, with or without a line's end."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")

    assert enrolment.read_token(str(file), {"CRYPTOFLEET_TOKEN": "other"}, io.StringIO("")).reveal() == TOKEN
    assert enrolment.read_token("-", {}, io.StringIO(TOKEN + "\nmore")).reveal() == TOKEN
    assert enrolment.read_token(None, {"CRYPTOFLEET_TOKEN": TOKEN}, io.StringIO("")).reveal() == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "short",
        "x" * 300,
        "two words are no token at all",
        "tok\u00e9n-tok\u00e9n-tok\u00e9n-tok",
        "\x1b[2J-aaaaaaaaaaaaaaaaaaa",
    ],
)
def test_what_is_no_token_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """Here, not at the collector; it may be another secret, given by mistake."""
    file = tmp_path / "token"
    file.write_text(text)

    for path, environ, stdin in (
        (str(file), {}, ""),
        ("-", {}, text),
        (None, {"CRYPTOFLEET_TOKEN": text}, ""),
    ):
        with pytest.raises(errors.UsageError, match="`fleet token create` prints one") as caught:
            enrolment.read_token(path, environ, io.StringIO(stdin))
        shown = "".join(traceback.format_exception(caught.value))
        assert not text.strip() or text.strip() not in shown


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its name is no secret."""
    with pytest.raises(errors.UsageError, match=r"cannot read the token from .*/missing: no such file"):
        enrolment.read_token(str(tmp_path / "missing"), {}, io.StringIO(""))


# -- secrets


def test_no_failure_and_no_log_shows_a_secret(
    state: StateDirectory, collects: Collects, ca: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither token nor keys, in any error, its causes and its traceback, or any library's debug log."""
    caplog.set_level(logging.DEBUG)
    host_id = ensure_key(state).host_id
    private = pem_body(Path(state.path, "host.key").read_bytes())
    seed = base64.b64decode(private)[-32:]
    planted = [TOKEN, PSEUDONYM_KEY, private, private[24:56], seed.hex(), base64.b64encode(seed).decode()]
    echo = json.dumps({"token": TOKEN, "pseudonym_key": PSEUDONYM_KEY}).encode()
    problem = canonical.encode(wire.problem("bad-token", f"the token {TOKEN} is spent"))
    shown: list[str] = []

    def attempt(pin: str, url: str) -> None:
        try:
            found, _ = enrol(state, url, pin=pin)
            shown.append(repr(found))
        except errors.AgentError as error:
            shown.extend([str(error), repr(error), *traceback.format_exception(error)])

    replies: list[Reply | None] = [None, Reply(403, problem), Reply(500, echo), Reply(201, echo), Reply(None)]
    replies += [Reply(status, problem) for status in (302, 400, 401, 409, 413, 429, 503)]
    replies += [Reply(201, make(collects, host_id)) for make in BAD_ANSWERS.values()]
    with serving(ca.issue(tmp_path / "server.pem"), collects) as server:
        for collects.reply in replies:
            attempt(ca.pin, server.url)
        attempt(Authority().pin, server.url)
        attempt(TOKEN, server.url)
        attempt(ca.pin, f"https://x:{TOKEN}@127.0.0.1:{server.port}")
    attempt(ca.pin, server.url)

    assert len(shown) > 60
    assert "connect" in caplog.text  # the libraries did log
    for words in (*shown, caplog.text):
        for secret in planted:
            assert secret not in words
