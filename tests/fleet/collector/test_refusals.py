# SPDX-License-Identifier: Apache-2.0
"""What does the collector refuse, how does it say so, and does nothing of it leave a trace?"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from agent.model import canonical, limits, wire
from tests.fleet.documents import certificate, manifest, part, section
from tests.fleet.running import Running
from tests.fleet.sender import Sender


def assert_problem(answer: httpx.Response, name: str) -> dict[str, Any]:
    """Every answer from 400 on is an RFC 9457 document with the fleet's pace."""
    status, title = wire.PROBLEMS[name]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    found: dict[str, Any] = answer.json()
    assert (found["type"], found["title"], found["status"]) == (
        f"urn:cryptofleet:problem:{name}",
        title,
        status,
    )
    assert answer.headers[wire.PACE_HEADER].startswith("next_post_s=")
    assert "Traceback" not in answer.text
    return found


@pytest.fixture
def unchanged(collector: Running, sender: Sender) -> Iterator[None]:
    """Around a refusal: every table but the audit log holds afterwards what it held before."""
    before = collector.dump()
    yield
    assert collector.dump() == before


def put(sender: Sender, body: bytes) -> httpx.Response:
    """PUT the body as the sender's state, signed as it should be."""
    return sender.send("PUT", f"/v1/hosts/{sender.host_id}/state", body)


# -- malformed bodies --------------------------------------------------------------------------------------


def _manifest_with(sender: Sender, old: bytes, new: bytes) -> bytes:
    raw = canonical.encode(manifest(sender.host_id, 1, {}))
    assert old in raw
    return sender.state(raw.replace(old, new))


MALFORMED: dict[str, bytes | Callable[[Sender], bytes]] = {
    "empty": b"",
    "no JSON": b"manifest",
    "cut off": lambda sender: sender.state(manifest(sender.host_id, 1, {}))[:-1],
    "not an object": b"[]",
    "a member missing": b'{"manifest":{}}',
    "a duplicate key in the envelope": lambda sender: (
        b'{"live":{},' + sender.state(manifest(sender.host_id, 1, {}))[1:]
    ),
    "a duplicate key in the manifest": lambda sender: _manifest_with(
        sender, b'{"agent"', b'{"seq":9,"agent"'
    ),
    "bytes that are not UTF-8": lambda sender: _manifest_with(sender, b"web1", b"web\xff"),
    "a lone surrogate": lambda sender: _manifest_with(sender, b"web1", b"\\ud800"),
    "NaN": lambda sender: _manifest_with(sender, b'"seq":1', b'"seq":NaN'),
    "infinity": lambda sender: _manifest_with(sender, b'"seq":1', b'"seq":Infinity'),
    "a fraction": lambda sender: _manifest_with(sender, b'"seq":1', b'"seq":1.0'),
    "an integer beyond 2**53": lambda sender: _manifest_with(sender, b'"seq":1', b'"seq":9007199254740993'),
    "a million digits": lambda sender: _manifest_with(sender, b'"seq":1', b'"seq":' + b"9" * 100_000),
    "deep nesting": lambda sender: sender.state(
        manifest(sender.host_id, 1, {}), live=b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"
    ),
    "nesting that would end a stack": b"[" * 200_000,
    "escaped quotes without an end": b'"' + b'\\"' * 100_000,
    "a wrong timestamp": lambda sender: sender.state(
        manifest(sender.host_id, 1, {}, collected_at="2026-01-01T00:00:00Z")
    ),
    "a moment that never was": lambda sender: sender.state(
        manifest(sender.host_id, 1, {}, collected_at="2026-02-30T00:00:00.000000Z")
    ),
    "live that is no object": lambda sender: sender.state(manifest(sender.host_id, 1, {}), live=b"[]"),
    "a digest that is none": lambda sender: _manifest_with(
        sender,
        b'"sections":{}',
        b'"sections":{"libraries":{"detector":1,"parts":{"local":"sha1:00"},"status":"complete"}}',
    ),
    # The pattern in the schema lets it pass; nobody could ever upload that part.
    "a digest and a line feed": lambda sender: _manifest_with(
        sender,
        b'"sections":{}',
        b'"sections":{"libraries":{"detector":1,"parts":{"local":"sha256:'
        + b"0" * 64
        + b'\\n"},"status":"complete"}}',
    ),
    "a section named by nobody of ours": lambda sender: sender.state(
        manifest(sender.host_id, 1, {"../../etc/passwd": section()})
    ),
    "a status of its own": lambda sender: _manifest_with(
        sender, b'"sections":{}', b'"sections":{"libraries":{"detector":1,"status":"fine"}}'
    ),
    "too many sections": lambda sender: sender.state(
        manifest(sender.host_id, 1, {f"s{number}": section() for number in range(limits.SECTIONS_MAX + 1)})
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_state_is_refused_and_leaves_no_trace(sender: Sender, unchanged: None, what: str) -> None:
    """Two readers must never read one document differently; what could be read so is not read at all."""
    # Given a request signed as it should be / When its body is malformed / Then it is told so
    body = MALFORMED[what]
    assert_problem(put(sender, body if isinstance(body, bytes) else body(sender)), "malformed")


MALFORMED_PARTS: dict[str, bytes] = {
    "an object": b"{}",
    "not sorted": canonical.encode([certificate(2), certificate(1)]),
    "the same key twice": canonical.encode([certificate(1), certificate(1)]),
    "an asset of no kind": b'[{"asset":{"kind":"cheese"},"key":"a"}]',
    "an entry without a key": b'[{"asset":{"kind":"kernel","machine":"m","release":"r"},"key":""}]',
    "a duplicate key": b'[{"key":"a","key":"b","asset":{"kind":"kernel","machine":"m","release":"r"}}]',
}


@pytest.mark.parametrize("what", MALFORMED_PARTS)
def test_a_malformed_part_is_refused_and_leaves_no_trace(sender: Sender, unchanged: None, what: str) -> None:
    """A part is judged once and shown many times; a bad one would spoil every host that has it."""
    assert_problem(sender.put_part(MALFORMED_PARTS[what]), "malformed")


# -- contradictions ----------------------------------------------------------------------------------------


def test_a_part_under_another_digest_is_refused(sender: Sender, unchanged: None) -> None:
    """Content is known by its digest, so the digest is always computed here."""
    assert_problem(sender.put_part(part(1), digest=canonical.digest(part(2))), "inconsistent")


def test_a_part_under_no_digest_is_refused(sender: Sender, unchanged: None) -> None:
    """What cannot be a digest is no path of ours."""
    assert_problem(sender.put_part(part(1), digest="sha256:ABC"), "malformed")


CONTRADICTIONS: dict[str, Callable[[Sender], bytes]] = {
    "another host's name": lambda sender: sender.state(manifest("h-" + "0" * 32, 1, {})),
    "no host's name": lambda sender: sender.state(manifest(None, 1, {})),
    "another kind of host": lambda sender: sender.state(manifest(sender.host_id, 1, {}, kind="import")),
    "seq 0": lambda sender: sender.state(manifest(sender.host_id, 0, {})),
    "a failed section with parts": lambda sender: sender.state(
        manifest(sender.host_id, 1, {"libraries": section(local=part(1), status="failed", reason="no")})
    ),
    "an absent section with parts": lambda sender: sender.state(
        manifest(sender.host_id, 1, {"libraries": section(vendor=part(1), status="absent")})
    ),
    "a manifest signed by another key": lambda sender: Sender(sender.client).state(
        manifest(sender.host_id, 1, {})
    ),
    "a manifest changed after signing": lambda sender: sender.state(manifest(sender.host_id, 1, {})).replace(
        b"web1", b"web2"
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_state_that_contradicts_itself_or_its_envelope_is_refused(
    sender: Sender, unchanged: None, what: str
) -> None:
    """The transport says who sends, the manifest says who speaks; both must say the same."""
    assert_problem(put(sender, CONTRADICTIONS[what](sender)), "inconsistent")


def test_a_body_that_is_not_what_its_digest_says_is_refused(sender: Sender, unchanged: None) -> None:
    """The signature covers the digest, not the body; the digest is what binds the body to it."""
    # Given a signed request / When the body is altered on the way, its length kept
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    answer = sender.client.put(
        path, content=body.replace(b"web1", b"web2"), headers=sender.headers("PUT", path, body)
    )
    # Then it is refused
    assert_problem(answer, "inconsistent")


def test_a_newer_schema_is_refused_with_the_ones_that_are_taken(sender: Sender, unchanged: None) -> None:
    """A collector that guessed at a newer document would misread it; told so, operators know what to do."""
    # Given a manifest of a schema from the future, whose form we cannot know
    raw = canonical.encode(manifest(sender.host_id, 1, {}, schema=99)).replace(
        b'"sections":{}', b'"sections":[1]'
    )
    # When it is sent / Then the answer says what would be taken
    assert assert_problem(put(sender, sender.state(raw)), "unsupported-schema")["supported"] == [1]


# -- signatures --------------------------------------------------------------------------------------------


def test_a_request_without_a_signature_is_refused(sender: Sender, unchanged: None) -> None:
    """Nobody is a host without proving it."""
    body = sender.state(manifest(sender.host_id, 1, {}))
    answer = sender.client.put(
        f"/v1/hosts/{sender.host_id}/state", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(answer, "unauthenticated")


@dataclass
class _Altered:
    headers: dict[str, str]
    path: str
    method: str = "PUT"


def _other_key(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers = Sender(sender.client).headers("PUT", request.path, body, key_id=sender.host_id)


def _altered_signature(sender: Sender, request: _Altered, body: bytes) -> None:
    label, _, value = request.headers["Signature"].partition("=:")
    raw = bytearray(base64.b64decode(value.rstrip(":")))
    raw[0] ^= 1
    request.headers["Signature"] = f"{label}=:{base64.b64encode(raw).decode()}:"


def _altered_path(sender: Sender, request: _Altered, body: bytes) -> None:
    request.path += "/"


def _altered_digest(sender: Sender, request: _Altered, body: bytes) -> None:
    digest = base64.b64encode(hashlib.sha256(body + b" ").digest()).decode()
    request.headers["content-digest"] = f"sha-256=:{digest}:"


def _uncovered_digest(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers = sender.headers("PUT", request.path, body, covered=("@method", "@path"))


def _uncovered_path(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers = sender.headers("PUT", request.path, body, covered=("@method", "content-digest"))


def _uncovered_method(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers = sender.headers("PUT", request.path, body, covered=("@path", "content-digest"))


def _no_digest(sender: Sender, request: _Altered, body: bytes) -> None:
    del request.headers["content-digest"]


def _unknown_host(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers = sender.headers("PUT", request.path, body, key_id="h-" + "f" * 32)


def _other_algorithm(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers["Signature-Input"] = request.headers["Signature-Input"].replace("ed25519", "hmac-sha256")


def _two_signatures(sender: Sender, request: _Altered, body: bytes) -> None:
    for name in ("Signature", "Signature-Input"):
        request.headers[name] += ", second=" + request.headers[name].partition("=")[2]


def _garbage(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers["Signature-Input"] = "cryptofleet=((((("


def _endless(sender: Sender, request: _Altered, body: bytes) -> None:
    request.headers["Signature-Input"] += ";nonce=" + '"' + "a" * 8000 + '"'


BAD_SIGNATURES = [
    _other_key,
    _altered_signature,
    _altered_path,
    _altered_digest,
    _uncovered_digest,
    _uncovered_path,
    _uncovered_method,
    _no_digest,
    _unknown_host,
    _other_algorithm,
    _two_signatures,
    _garbage,
    _endless,
]


@pytest.mark.parametrize("alter", BAD_SIGNATURES, ids=lambda alter: alter.__name__.strip("_"))
def test_a_wrongly_signed_request_is_refused_and_leaves_no_trace(
    sender: Sender, unchanged: None, alter: Callable[[Sender, _Altered, bytes], None]
) -> None:
    """The signature must be this host's, over this method, path and body, and over nothing less."""
    # Given a request as it should be, altered in one thing
    body = sender.state(manifest(sender.host_id, 1, {}))
    path = f"/v1/hosts/{sender.host_id}/state"
    request = _Altered(sender.headers("PUT", path, body), path)
    alter(sender, request, body)
    # When it is sent / Then it is not taken
    assert_problem(
        sender.client.request(request.method, request.path, content=body, headers=request.headers),
        "unauthenticated",
    )


def test_a_host_may_not_write_another_hosts_state(
    collector: Running, client: httpx.Client, sender: Sender
) -> None:
    """A host that fell to an attacker must not speak for its neighbours."""
    # Given two hosts / When one signs a request for the other's path
    other = collector.enrolled(client)
    before = collector.dump()
    answer = sender.send(
        "PUT", f"/v1/hosts/{other.host_id}/state", sender.state(manifest(other.host_id, 1, {}))
    )
    # Then that is forbidden
    assert_problem(answer, "forbidden")
    assert collector.dump() == before


# -- sizes and codings -------------------------------------------------------------------------------------


def test_a_body_announced_too_large_is_refused_before_it_is_read(sender: Sender, unchanged: None) -> None:
    """The limit stands before the memory is spent."""
    body = b" " * (limits.BODY_BYTES_MAX + 1)
    found = assert_problem(sender.put_part(body), "too-large")
    assert found["limit"] == limits.BODY_BYTES_MAX


def test_a_state_larger_than_any_manifest_is_refused(sender: Sender, unchanged: None) -> None:
    """A state has a smaller limit than a part."""
    assert_problem(put(sender, b" " * 300_000), "too-large")


def test_a_body_without_an_announced_length_is_refused(sender: Sender, unchanged: None) -> None:
    """A chunked body could grow without end, whatever it looked like at its beginning."""
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    answer = sender.client.put(path, content=iter([body]), headers=sender.headers("PUT", path, body))
    assert_problem(answer, "length-required")


def _raw(collector: Running, head: bytes, body: bytes) -> bytes:
    """What the collector answers to exactly these bytes."""
    host, port = collector.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(collector.ca))
    found = b""
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=host) as line,
    ):
        line.sendall(head + b"\r\n\r\n" + body)
        while piece := line.recv(65536):
            found += piece
    return found


def _head(sender: Sender, path: str, headers: dict[str, str], **more: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "host: collector", "connection: close"]
    lines += [f"{name}: {value}" for name, value in {**headers, **more}.items()]
    return "\r\n".join(lines).encode()


def test_a_length_that_lies_about_a_chunked_body_is_refused(
    collector: Running, sender: Sender, unchanged: None
) -> None:
    """With both headers, two readers could see two bodies (RFC 9112 section 6.3); ours is not among them."""
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    head = _head(
        sender,
        path,
        sender.headers("PUT", path, body),
        **{"content-length": "5", "transfer-encoding": "chunked"},
    )
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert _raw(collector, head, chunked).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 411 "))


def test_a_chunked_body_is_refused_also_with_an_honest_length(
    collector: Running, sender: Sender, unchanged: None
) -> None:
    """Both headers at once are how a request is smuggled past a proxy (RFC 9112 section 6.1)."""
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    more = {"content-length": str(len(body)), "transfer-encoding": "chunked"}
    head = _head(sender, path, sender.headers("PUT", path, body), **more)
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert _raw(collector, head, chunked).startswith(b"HTTP/1.1 411 ")


def test_a_body_longer_than_its_length_is_cut_there_and_refused(
    collector: Running, sender: Sender, unchanged: None
) -> None:
    """What follows the announced length is not part of the request; what is left is not what was signed."""
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    head = _head(sender, path, sender.headers("PUT", path, body), **{"content-length": str(len(body) - 10)})
    assert _raw(collector, head, body).startswith(b"HTTP/1.1 422 ")


def test_a_gzip_bomb_is_refused_by_its_ratio(sender: Sender, unchanged: None) -> None:
    """Small on the wire and large in memory: it is given up at a hundred times its size."""
    body = gzip.compress(b" " * 4_000_000)
    path = f"/v1/parts/{canonical.digest(b'')}"
    headers = {**sender.headers("PUT", path, body), "content-encoding": "gzip"}
    found = assert_problem(sender.client.put(path, content=body, headers=headers), "too-large")
    assert found["limit"] == limits.EXPANSION_RATIO_MAX * len(body)


def test_a_body_that_unpacks_beyond_the_limit_is_refused(sender: Sender, unchanged: None) -> None:
    """Also at an honest ratio there is an end."""
    body = gzip.compress(
        b"".join(hashlib.sha256(str(n).encode()).hexdigest().encode() for n in range(140_000))
    )
    assert len(body) < limits.BODY_BYTES_MAX
    path = f"/v1/parts/{canonical.digest(b'')}"
    headers = {**sender.headers("PUT", path, body), "content-encoding": "gzip"}
    found = assert_problem(sender.client.put(path, content=body, headers=headers), "too-large")
    assert found["limit"] == limits.PART_BYTES_MAX


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-9], lambda data: data + b"more", lambda data: data + data, lambda data: data[4:]],
)
def test_a_spoilt_gzip_stream_is_refused(
    sender: Sender, unchanged: None, spoil: Callable[[bytes], bytes]
) -> None:
    """Exactly one whole stream: what comes after it would be signed and never read."""
    body = spoil(gzip.compress(part(1)))
    path = f"/v1/parts/{canonical.digest(part(1))}"
    headers = {**sender.headers("PUT", path, body), "content-encoding": "gzip"}
    assert_problem(sender.client.put(path, content=body, headers=headers), "malformed")


@pytest.mark.parametrize(
    "header", [{"content-type": "text/plain"}, {"content-type": ""}, {"content-encoding": "br"}]
)
def test_other_media_and_codings_are_refused(sender: Sender, unchanged: None, header: dict[str, str]) -> None:
    """One way to say a thing."""
    path = f"/v1/hosts/{sender.host_id}/state"
    body = sender.state(manifest(sender.host_id, 1, {}))
    answer = sender.client.put(path, content=body, headers={**sender.headers("PUT", path, body), **header})
    assert_problem(answer, "unsupported-media")


def test_a_live_document_that_is_too_large_is_refused(sender: Sender, unchanged: None) -> None:
    """What is true only now must not crowd out what is."""
    live = b'{"a":"' + b"b" * limits.LIVE_BYTES_MAX + b'"}'
    assert_problem(put(sender, sender.state(manifest(sender.host_id, 1, {}), live=live)), "too-large")


# -- what no endpoint of ours answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/", "not-found"),
        ("GET", "/v1", "not-found"),
        ("GET", "/v1/parts/x/y", "not-found"),
        ("GET", "/../../etc/passwd", "not-found"),
        ("GET", "/%00", "not-found"),
        ("GET", "/schema", "not-found"),
        ("GET", "/openapi.json/x", "not-found"),
        ("GET", "/v1/enroll", "method-not-allowed"),
        ("DELETE", "/v1/hosts/h-1/state", "method-not-allowed"),
        ("POST", "/healthz", "method-not-allowed"),
    ],
)
def test_unknown_paths_and_methods_get_a_problem_too(
    client: httpx.Client, method: str, path: str, name: str
) -> None:
    """The framework's own words never leave the house."""
    assert_problem(client.request(method, path), name)


def test_what_is_no_http_gets_a_problem_too(collector: Running) -> None:
    """Not even the server library speaks for us."""
    answer = _raw(collector, b"GARBAGE", b"")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert wire.PACE_HEADER.encode() in head
    assert json.loads(body)["type"] == "urn:cryptofleet:problem:malformed"


@pytest.mark.parametrize("host", [b"x:99999999", b"[", b"", b"a/../b"])
def test_a_senseless_host_header_gets_a_problem_too(collector: Running, host: bytes) -> None:
    """Nothing of ours depends on it, so nothing may fail on it."""
    answer = _raw(collector, b"GET /nothing HTTP/1.1\r\nconnection: close\r\nhost: " + host, b"")
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"application/problem+json" in answer


# -- replays and rights ------------------------------------------------------------------------------------


def test_a_replay_gets_the_same_answer_and_changes_nothing(collector: Running, sender: Sender) -> None:
    """A lost answer is not an attack: the same state under the same number is answered as before."""
    # Given an accepted state
    state = manifest(sender.host_id, 1, {"libraries": section(local=part(1))})
    first = sender.post_all(state, part(1))
    assert first.status_code == 200
    before = collector.dump()
    # When it is sent again / Then the answer is the same and nothing has moved, not even last_seen
    again = sender.put_state(state)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert collector.dump() == before


def test_an_older_state_is_refused_with_the_number_to_go_on_from(collector: Running, sender: Sender) -> None:
    """Order is the host's own count: what was overtaken on the way does not undo what came after it."""
    # Given a host that is at 5
    assert sender.put_state(manifest(sender.host_id, 5, {"libraries": section()})).status_code == 200
    before = collector.dump()
    # When 4 arrives, or another 5 / Then both are told that the collector is at 5
    for late in (manifest(sender.host_id, 4, {}), manifest(sender.host_id, 5, {})):
        assert assert_problem(sender.put_state(late), "state-ahead")["seq"] == 5
    assert collector.dump() == before
    # And 6 is taken
    assert sender.put_state(manifest(sender.host_id, 6, {})).status_code == 200


def test_a_host_cannot_claim_content_it_has_not_shown(
    collector: Running, client: httpx.Client, sender: Sender
) -> None:
    """A digest proves nothing: whoever overheard one would learn whether the fleet has that content."""
    # Given host B, whose part is here
    body = part(77)
    other = collector.enrolled(client)
    assert (
        other.post_all(manifest(other.host_id, 1, {"certificates": section(local=body)}), body).status_code
        == 200
    )
    before = collector.dump()
    # When A refers to it without having uploaded it / Then it is missing for A, and nothing was taken
    state = manifest(sender.host_id, 1, {"certificates": section(local=body)})
    answer = sender.put_state(state)
    assert (answer.status_code, answer.json()) == (202, {"missing": [canonical.digest(body)]})
    assert collector.dump() == before
    # And once A has uploaded it, A's state is taken
    assert sender.put_part(body).status_code == 204
    assert sender.put_state(state).status_code == 200


def test_a_part_of_an_unknown_host_is_refused(
    collector: Running, client: httpx.Client, sender: Sender
) -> None:
    """Only hosts fill the store."""
    before = collector.dump()
    assert_problem(Sender(client).put_part(part(1)), "unauthenticated")
    assert collector.dump() == before


def test_a_missing_part_consumes_no_number(sender: Sender) -> None:
    """A 202 took nothing, so the same number comes again with the same state."""
    state = manifest(sender.host_id, 1, {"certificates": section(local=part(5), vendor=part(6))})
    missing = sender.put_state(state)
    assert missing.status_code == 202
    assert missing.json()["missing"] == sorted([canonical.digest(part(5)), canonical.digest(part(6))])
    assert sender.post_all(state, part(5), part(6)).json() == {"seq": 1}
