# SPDX-License-Identifier: Apache-2.0
"""What becomes of a post that is as it should be?"""

from __future__ import annotations

import base64
import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.model import canonical, limits, wire
from agent.model.inventory import encode_part
from fleet.store import open_store
from tests.fleet.documents import certificate, manifest, part, section
from tests.fleet.running import Running
from tests.fleet.sender import Sender


@pytest.mark.parametrize("gzip", [False, True])
def test_a_post_is_missing_its_parts_then_taken_then_unchanged(sender: Sender, gzip: bool) -> None:
    """The life of an ordinary host: 202 once, 200 on a change, 204 from then on; plain or packed."""
    # Given a state whose part was never seen
    body = part(*range(200))
    state = manifest(sender.host_id, 1, {"certificates": section(local=body)})
    answer = sender.put_state(state, gzip=gzip)
    assert (answer.status_code, answer.json()) == (202, {"missing": [canonical.digest(body)]})
    # When the part is uploaded
    uploaded = sender.put_part(body, gzip=gzip)
    assert (uploaded.status_code, uploaded.content) == (204, b"")
    # Then the same state is taken, and the next one, which says the same, has changed nothing
    answer = sender.put_state(state, gzip=gzip)
    assert (answer.status_code, answer.json()) == (200, {"seq": 1})
    answer = sender.put_state(manifest(sender.host_id, 2, {"certificates": section(local=body)}), gzip=gzip)
    assert (answer.status_code, answer.content) == (204, b"")


def test_every_answer_says_when_to_come_again(sender: Sender, client: httpx.Client) -> None:
    """The server paces its fleet."""
    answers = [
        client.get("/healthz"),
        client.get("/nowhere"),
        sender.put_part(part(1)),
        sender.put_state(manifest(sender.host_id, 1, {})),
    ]
    assert {answer.headers[wire.PACE_HEADER] for answer in answers} == {"next_post_s=3600, rescan=?0"}


def test_what_was_signed_is_kept_and_still_verifies(collector: Running, sender: Sender) -> None:
    """The manifest and its signature are evidence, years later and without the collector."""
    state = manifest(sender.host_id, 1, {"host": section()})
    # Given a manifest with white space and a member from the future, both signed
    raw = canonical.encode(state).replace(b'"seq":1', b'"seq": 1,\n "seen_by": "a newer agent"')
    body = sender.state(raw)
    assert sender.send("PUT", f"/v1/hosts/{sender.host_id}/state", body).status_code == 200
    # When it is read back / Then the bytes are the same and the signature is over them
    store = open_store(collector.data.database)
    kept = store.manifest(sender.host_id)
    store.close()
    assert kept is not None
    assert kept[0] == raw
    value = base64.b64decode(json.loads(kept[1])["value"])
    Ed25519PublicKey.from_public_bytes(sender.public_key).verify(value, kept[0])


def test_clock_skew_is_recorded_and_drives_nothing(collector: Running, sender: Sender) -> None:
    """A host that lives in another year converges like any other; its clock is only noted."""
    # Given a host whose clock is ten years behind
    late = dt.timedelta(days=-3650)
    sender.clock_off = late
    collected_at = canonical.timestamp_of(dt.datetime.now(dt.UTC) + late)
    # When it posts / Then it is taken, seen now, and its skew is known to the second
    state = manifest(sender.host_id, 1, {"host": section()}, collected_at=collected_at)
    assert sender.put_state(state).status_code == 200
    store = open_store(collector.data.database)
    (found,) = store.snapshots(host_id=sender.host_id)
    store.close()
    assert found.host.skew_ms is not None
    assert abs(dt.timedelta(milliseconds=found.host.skew_ms) - late) < dt.timedelta(minutes=1)
    assert found.last_seen is not None
    assert abs(canonical.parse_timestamp(found.last_seen) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


def test_two_states_at_once_leave_one_whole_state(collector: Running, sender: Sender) -> None:
    """A timer and an operator's hand at the same moment: one of them wins as a whole."""
    # Given two states that differ in both of their sections, sent over two connections at once
    bodies = {number: part(number) for number in (1, 2)}
    for body in bodies.values():
        sender.put_part(body).raise_for_status()
    states = [
        manifest(
            sender.host_id, seq, {"host": section(local=bodies[seq]), "libraries": section(local=bodies[seq])}
        )
        for seq in (1, 2)
    ]
    with collector.client() as one, collector.client() as other, ThreadPoolExecutor(2) as pool:
        senders = (Sender(one, sender.key), Sender(other, sender.key))
        answers = list(
            pool.map(lambda pair: pair[0].put_state(pair[1]).status_code, zip(senders, states, strict=True))
        )
    # Then the later number is what is there, whichever came first
    assert answers in ([200, 200], [409, 200])
    store = open_store(collector.data.database)
    (found,) = store.snapshots(host_id=sender.host_id)
    store.close()
    assert found.sections == states[1].sections


def test_a_whole_document_is_taken_at_once(collector: Running, client: httpx.Client, sender: Sender) -> None:
    """What was carried by hand needs no connection of its host's."""
    # Given a document signed by an enrolled host, and somebody who carries it
    state = manifest(sender.host_id, 1, {"libraries": section(local=part(1), vendor=part(2))})
    document = sender.document(state, part(1), part(2))
    # When it is posted without any signature on the way
    answer = client.post("/v1/inventories", content=document, headers={"content-type": "application/json"})
    # Then it is the host's state, and again is the same
    assert (answer.status_code, answer.json()) == (201, {"host_id": sender.host_id, "seq": 1})
    before = collector.dump()
    again = client.post("/v1/inventories", content=document, headers={"content-type": "application/json"})
    assert (again.status_code, again.content, collector.dump()) == (201, answer.content, before)


def _document(case: str, sender: Sender) -> bytes:
    state = manifest(sender.host_id, 1, {"libraries": section(local=part(1))})
    whole = sender.document(state, part(1))
    return {
        "not signed": whole[: whole.rindex(b',"signature"')] + b"}",
        "signed by a stranger": Sender(sender.client).document(state, part(1)),
        "of nobody": sender.document(manifest(None, 1, {})),
        "altered": whole.replace(b"web1", b"web2"),
        "without its part": sender.document(state),
        "with a part too many": sender.document(state, part(1), part(2)),
        "with a part under another digest": whole.replace(
            canonical.encode(certificate(1)), canonical.encode(certificate(2))
        ),
        "no document": b"[]",
        "with a key twice": whole[:-1] + b',"parts":{}}',
        "of a stranger, with a key twice": Sender(sender.client).document(state)[:-1] + b',"parts":{}}',
        "nested without end": b'{"manifest":{},"x":' + b"[" * 100_000,
        "from the future": sender.document(manifest(sender.host_id, 1, {}, schema=9)),
    }[case]


@pytest.mark.parametrize(
    ("case", "status"),
    [
        ("not signed", 403),
        ("signed by a stranger", 403),
        ("of nobody", 403),
        ("altered", 403),
        ("without its part", 202),
        ("with a part too many", 422),
        ("with a part under another digest", 422),
        ("no document", 400),
        ("with a key twice", 400),
        # Who is not known here is told so; checking the whole of what a stranger sends would cost too much.
        ("of a stranger, with a key twice", 403),
        ("nested without end", 400),
        ("from the future", 415),
    ],
)
def test_a_whole_document_is_checked_like_its_pieces(
    collector: Running, client: httpx.Client, sender: Sender, case: str, status: int
) -> None:
    """By hand is no way around a check."""
    document = _document(case, sender)
    before = collector.dump()
    answer = client.post("/v1/inventories", content=document, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert collector.dump() == before


def test_a_large_part_goes_through(sender: Sender) -> None:
    """Up to the limit, and beside the event loop."""
    body = encode_part(certificate(number) for number in range(12_000))
    assert limits.PART_BYTES_MAX / 2 < len(body) < limits.PART_BYTES_MAX
    state = manifest(sender.host_id, 1, {"certificates": section(local=body)})
    sender.put_part(body, gzip=True).raise_for_status()
    assert sender.put_state(state).status_code == 200


def test_the_openapi_document_describes_every_endpoint(client: httpx.Client) -> None:
    """It is made from the endpoints, so it cannot lag behind; every body and every refusal is in it."""
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    found = {(method, path) for path, item in document["paths"].items() for method in item}
    assert found == {
        ("get", "/healthz"),
        ("get", "/openapi.json"),
        ("get", "/readyz"),
        ("get", "/v1/ca"),
        ("post", "/v1/enroll"),
        ("post", "/v1/inventories"),
        ("put", "/v1/hosts/{host_id}/state"),
        ("put", "/v1/parts/{digest}"),
    }
    for method, path in found:
        operation = document["paths"][path][method]
        assert ("requestBody" in operation) == (method != "get"), path
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
    assert client.get("/openapi.json").content == client.get("/openapi.json").content
