# SPDX-License-Identifier: Apache-2.0
"""Does `fleet host revoke` close exactly the host that was meant, while the collector runs?"""

from __future__ import annotations

import httpx
from click.testing import CliRunner, Result

from fleet.cli import cli
from tests.fleet.documents import manifest, section
from tests.fleet.running import Running


def revoke(collector: Running, name: str) -> Result:
    """The command, beside the running collector."""
    return CliRunner().invoke(cli, ["host", "revoke", name, "--data", str(collector.data.root)])


def test_a_revoked_host_is_refused_at_once(collector: Running, client: httpx.Client) -> None:
    """An operator who has found a stolen key does not wait for a restart."""
    # Given two hosts that post
    good, stolen = collector.enrolled(client), collector.enrolled(client)
    for sender in (good, stolen):
        assert sender.put_state(manifest(sender.host_id, 1, {"host": section()})).status_code == 200
    # When one is revoked by the beginning of its id
    found = revoke(collector, stolen.host_id[:12])
    assert (found.exit_code, found.stdout) == (0, f"{stolen.host_id}\n")
    # Then it is refused, with whatever it sends, and the other is not
    answer = stolen.put_state(manifest(stolen.host_id, 2, {}))
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:cryptofleet:problem:forbidden")
    assert stolen.put_part(b"[]").status_code == 403
    assert stolen.enroll(collector.token()).status_code == 403
    document = stolen.document(manifest(stolen.host_id, 3, {}))
    headers = {"content-type": "application/json"}
    assert client.post("/v1/inventories", content=document, headers=headers).status_code == 403
    assert good.put_state(manifest(good.host_id, 2, {"host": section()})).status_code == 204


def test_a_host_that_is_none_is_told(collector: Running) -> None:
    """With what to do."""
    found = revoke(collector, "web99")
    assert found.exit_code == 1
    assert "fleet hosts" in found.stderr
