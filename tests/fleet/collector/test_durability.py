# SPDX-License-Identifier: Apache-2.0
"""Does a 2xx mean durable? The collector is killed again and again, and asked what it still knows."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.model.inventory import SectionState
from fleet.config import DataDir
from fleet.store import open_store
from tests.fleet.documents import manifest, part, section
from tests.fleet.running import Running, start
from tests.fleet.sender import Sender

pytestmark = pytest.mark.slow

_ROUNDS = 8
_HOSTS = 4
_POSTS_A_ROUND = 60


@dataclass
class _Host:
    """What one host knows: what it sent under which number, and what was answered with a 2xx."""

    key: Ed25519PrivateKey
    host_id: str
    sent: dict[int, dict[str, SectionState]] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)

    def post(self, collector: Running, enough: threading.Event) -> None:
        """Post until the collector is gone."""
        with collector.client() as client:
            sender = Sender(client, self.key)
            while not enough.is_set():
                seq = max(self.sent, default=0) + 1
                body = part(seq % 7, 1000 + seq)
                # The detector's version is the number: every accepted post leaves an interval of its own.
                self.sent[seq] = {"certificates": section(local=body, detector=seq)}
                try:
                    answer = sender.post_all(manifest(self.host_id, seq, self.sent[seq]), body)
                except httpx.HTTPError:
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged.append(seq)


def _total(hosts: list[_Host]) -> int:
    return sum(len(host.acknowledged) for host in hosts)


def _run_and_kill(data: DataDir, hosts: list[_Host], chance: random.Random, log: Path) -> None:
    """One life of the collector: it ends in the middle of whatever it is doing."""
    collector = start(data, log=log)
    if not hosts:
        with collector.client() as client:
            for _ in range(_HOSTS):
                sender = collector.enrolled(client)
                hosts.append(_Host(sender.key, sender.host_id))
    before = _total(hosts)
    enough = threading.Event()
    threads = [threading.Thread(target=host.post, args=(collector, enough)) for host in hosts]
    for thread in threads:
        thread.start()
    wanted = before + chance.randrange(1, _POSTS_A_ROUND)
    while _total(hosts) < wanted and any(thread.is_alive() for thread in threads):
        enough.wait(chance.random() / 100)
    collector.kill()
    enough.set()
    for thread in threads:
        thread.join()
    assert collector.process.stdout is not None
    collector.process.stdout.close()


def test_every_acknowledged_post_survives_a_killed_collector(tmp_path: Path) -> None:
    """A 2xx means durable, also when nothing of the process is left a moment later."""
    # Given hosts that post without a pause
    data, log = DataDir(tmp_path / "collector"), tmp_path / "log"
    hosts: list[_Host] = []
    chance = random.Random(20260331)
    for _ in range(_ROUNDS):
        # When the collector is killed at a random moment
        _run_and_kill(data, hosts, chance, log)
        store = open_store(data.database)
        try:
            for host in hosts:
                (found,) = store.snapshots(host_id=host.host_id)
                changes = store.changes(host_id=host.host_id, limit=10_000)
                taken = [change.new.detector for change in changes if change.new is not None]
                # Then every post it acknowledged is there, in order, and at most one more per host
                assert taken[: len(host.acknowledged)] == host.acknowledged
                assert len(taken) - len(host.acknowledged) in (0, 1)
                if taken:
                    assert found.host.seq == taken[-1]
                    assert found.sections == host.sent[taken[-1]]
                # What was taken without the host having heard of it counts as said: it goes on there.
                host.acknowledged = taken
                host.sent = {seq: host.sent[seq] for seq in taken}
            assert store.check_audit() is None
        finally:
            store.close()
    assert _total(hosts) >= _ROUNDS
    assert "Traceback" not in log.read_text()
