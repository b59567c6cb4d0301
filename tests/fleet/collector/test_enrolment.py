# SPDX-License-Identifier: Apache-2.0
"""How does a host become one of ours, over the wire, and who does not?"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.model import canonical, wire
from fleet.config import DataDir
from fleet.enroll import new_token
from tests.fleet.documents import manifest, section
from tests.fleet.running import Running, running
from tests.fleet.sender import Sender, connect


@pytest.fixture
def stranger(client: httpx.Client) -> Sender:
    """A host that nobody knows yet."""
    return Sender(client)


def test_a_token_and_a_key_become_a_host(collector: Running, stranger: Sender) -> None:
    """The reply holds all that the agent needs from now on."""
    # Given a token / When a host enrols with it
    answer = stranger.enroll(collector.token(group="web"))
    # Then it is told who it is, what the CA's pin is, and the key of the fleet
    assert answer.status_code == 201
    reply = answer.json()
    assert reply["host_id"] == "h-" + hashlib.sha256(stranger.public_key).hexdigest()[:32]
    assert reply["ca_pins"] == [collector.pin]
    assert len(base64.b64decode(reply["pseudonym_key"])) == 32
    assert reply["pseudonym_key_id"].startswith("p-")
    assert reply["next_post_s"] == 3600
    canonical.parse_timestamp(reply["server_time"])
    # And it may post
    assert stranger.put_state(manifest(stranger.host_id, 1, {"host": section()})).status_code == 200


def test_a_repeat_gets_the_same_reply_and_uses_nothing_up(collector: Running, stranger: Sender) -> None:
    """An answer that was lost is asked for again, also when the token has no use left."""
    token = collector.token(uses=1)
    first, again = stranger.enroll(token), stranger.enroll(token)
    assert (first.status_code, again.status_code) == (201, 201)
    assert {**first.json(), "server_time": ""} == {**again.json(), "server_time": ""}
    other = Sender(stranger.client).enroll(token)
    assert other.status_code == 403


def test_all_hosts_of_a_fleet_get_one_pseudonym_key(collector: Running, client: httpx.Client) -> None:
    """So that one user is one pseudonym on all of them."""
    keys = {Sender(client).enroll(collector.token()).json()["pseudonym_key"] for _ in range(2)}
    assert len(keys) == 1


@pytest.mark.parametrize("why", ["unknown", "used up", "expired", "revoked", "no token"])
def test_a_token_that_is_not_valid_is_refused_in_the_same_words(
    collector: Running, stranger: Sender, why: str
) -> None:
    """Who tries tokens learns nothing about those that were valid once."""
    token = new_token()
    if why == "used up":
        token = collector.token()
        assert Sender(stranger.client).enroll(token).status_code == 201
    elif why == "expired":
        token = collector.token()
        with sqlite3.connect(collector.data.database, timeout=10) as connection:
            connection.execute(
                "UPDATE token SET expires_at = created_at WHERE id = (SELECT MAX(id) FROM token)"
            )
        connection.close()
    elif why == "revoked":
        token = collector.token()
        with sqlite3.connect(collector.data.database, timeout=10) as connection:
            connection.execute(
                "UPDATE token SET revoked_at = created_at WHERE id = (SELECT MAX(id) FROM token)"
            )
        connection.close()
    elif why == "no token":
        token = "x" * 47
    before = collector.dump()
    answer = stranger.enroll(token)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:cryptofleet:problem:bad-token"
    assert token not in answer.text
    assert collector.dump() == before


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"proof": base64.b64encode(b"\0" * 64).decode()}, "inconsistent"),
        ({"proof": "!"}, "malformed"),
        ({"public_key": base64.b64encode(b"\0" * 31).decode()}, "malformed"),
        ({"public_key": base64.b64encode(b"\xff" * 32).decode()}, "inconsistent"),
        ({"public_key": 7}, "malformed"),
        ({"hostname": ""}, "malformed"),
        ({"hostname": "a\x1b[31mred"}, "malformed"),
        ({"hostname": "a" * 256}, "malformed"),
        ({"machine_id_sha256": "A" * 64}, "malformed"),
    ],
)
def test_a_request_that_proves_nothing_is_refused(
    collector: Running, stranger: Sender, changed: dict[str, object], name: str
) -> None:
    """A key whose private half the sender does not hold would be a host that nobody can be."""
    token = collector.token()
    before = collector.dump()
    answer = stranger.enroll(token, **changed)
    assert answer.json()["type"] == f"urn:cryptofleet:problem:{name}", answer.text
    assert token not in answer.text
    assert collector.dump() == before


def test_an_enrolment_that_is_too_large_is_refused(stranger: Sender) -> None:
    """Whoever is nobody yet gets little room."""
    answer = stranger.enroll("x" * 5000)
    assert (answer.status_code, answer.json()["limit"]) == (413, 4096)


def test_the_ca_can_be_pinned_before_it_is_trusted(collector: Running) -> None:
    """An agent fetches the CA unverified, compares it with an operator's pin, and only then trusts it."""
    # Given a connection that verifies nothing
    with connect(collector.url, None) as unverified:
        answer = unverified.get("/v1/ca")
    # When the CA it gets is measured as the pin is defined
    certificate = x509.load_pem_x509_certificate(answer.content)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # Then it is the pin that the collector printed
    assert "sha256:" + hashlib.sha256(spki).hexdigest() == collector.pin
    assert answer.content == collector.ca.read_bytes()


def test_many_wrong_tokens_are_slowed_down(tmp_path: Path) -> None:
    """A stranger must not fill the audit log."""
    # Given a collector / When one stranger tries token after token
    with running(DataDir(tmp_path / "collector")) as collector, collector.client() as client:
        stranger = Sender(client)
        answers = [stranger.enroll(new_token()) for _ in range(40)]
        # Then after a while nothing is tried any more, nor written down
        assert {answer.status_code for answer in answers} == {403, 429}
        slowed = next(answer for answer in answers if answer.status_code == 429)
        assert slowed.headers["retry-after"].isdigit()
        assert slowed.headers[wire.PACE_HEADER]
        refused = sum(answer.status_code == 403 for answer in answers)
        with sqlite3.connect(collector.data.database) as connection:
            (records,) = connection.execute(
                "SELECT COUNT(*) FROM audit WHERE action = 'enrolment-refused'"
            ).fetchone()
        connection.close()
        assert records == refused


def test_no_secret_is_in_the_log_or_the_database(tmp_path: Path) -> None:
    """Tokens, keys and pseudonym keys are in nobody's log, whether they were taken or refused."""
    # Given a collector that has enrolled a host and refused another
    data = DataDir(tmp_path / "collector")
    with running(data) as collector, collector.client() as client:
        good, bad = collector.token(), new_token()
        reply = Sender(client).enroll(good).json()
        assert Sender(client).enroll(bad).status_code == 403
        assert Sender(client).enroll(bad, hostname="").status_code == 400
    # When everything it wrote is read
    written = (tmp_path / "collector.log").read_bytes()
    for path in data.root.iterdir():
        if path.name.startswith("fleet.db"):
            written += path.read_bytes()
    # Then none of the secrets is in it
    assert b"enrolment refused" in written
    for secret in (good, bad, reply["pseudonym_key"], json.dumps(reply["pseudonym_key"])):
        assert secret.encode() not in written
