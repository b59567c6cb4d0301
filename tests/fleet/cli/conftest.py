# SPDX-License-Identifier: Apache-2.0
"""A fleet with a history in a real store, and the `fleet` command run over it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.model import canonical
from agent.model.inventory import AgentIdentity, Entry, HostIdentity, Manifest, SectionState
from fleet.cli import cli
from fleet.config import DataDir
from fleet.enroll import Applicant
from fleet.store import Store, open_store
from fleet.store.records import Accepted, NewToken, Post, Unchanged
from tests.reports.samples import Fleet, certificate, ec, entry, library, nothing, rsa, use

DAY_NS = 86_400 * 10**9


class Town:
    """Hosts that post at chosen moments: ages are in days before now, since the commands have a clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.parts = Fleet()
        self.now_ns = time.time_ns()
        self.seq = 0
        self.token = hashlib.sha256(b"a token").hexdigest()
        expires = canonical.timestamp(self.now_ns + DAY_NS)
        for group, name in ((None, self.token), ("web", hashlib.sha256(b"a web token").hexdigest())):
            token = NewToken(sha256=name, uses_max=100, expires_at=expires, group=group)
            store.add_token(token, actor="test", now_ns=self.at(400)).result()

    def at(self, age_days: float) -> int:
        """That long ago."""
        return self.now_ns - int(age_days * DAY_NS)

    def enrol(self, key: int, name: str, *, age_days: float = 90, group: str | None = None) -> str:
        """A host; its identity follows from the key."""
        token = hashlib.sha256(b"a web token").hexdigest() if group else self.token
        applicant = Applicant(
            token_sha256=token, public_key=bytes([key]) * 32, hostname=name, machine_id_sha256=None
        )
        self.store.enroll(applicant, origin="test", now_ns=self.at(age_days)).result()
        return applicant.host_id

    def post(self, host_id: str, name: str, age_days: float, **sections: SectionState) -> None:
        """That host's state at that time."""
        self.seq += 1
        manifest = Manifest(
            schema=1,
            host=HostIdentity(kind="agent", hostname=name, host_id=host_id),
            agent=AgentIdentity(version="0.1.0"),
            collected_at=canonical.timestamp(self.at(age_days)),
            sections=sections,
            seq=self.seq,
        )
        post = Post(
            host_id=host_id,
            manifest=manifest,
            manifest_bytes=canonical.encode(manifest),
            signature=b"{}",
            live=b"{}",
            received_ns=self.at(age_days),
            parts=self.parts.parts,
        )
        assert isinstance(self.store.put_state(post).result(), Accepted | Unchanged)

    def section(self, *local: Entry, **more: Any) -> SectionState:  # noqa: ANN401 - as Fleet.section takes them
        """A section with these entries."""
        return self.parts.section(*local, **more)


def in_days(days: int) -> str:
    """The timestamp that many days from now, at midnight."""
    moment = dt.datetime.now(tz=dt.UTC) + dt.timedelta(days=days)
    return canonical.timestamp_of(moment.replace(hour=0, minute=0, second=0, microsecond=0))


class Commands:
    """The command, over one data directory."""

    def __init__(self, data: DataDir) -> None:
        self.data = data

    def run(self, *arguments: str) -> Result:
        """Whatever comes of it."""
        return CliRunner().invoke(cli, [*arguments, "--data", str(self.data.root)], catch_exceptions=False)

    def text(self, *arguments: str) -> str:
        """What it prints, having ended well."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever a document holds
        """What it prints with --format json, having ended well."""
        return json.loads(self.text(*arguments, "--format", "json"))


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """A data directory with a store in it."""
    found = DataDir(tmp_path / "collector")
    found.create()
    open_store(found.database, create=True).close()
    return found


@pytest.fixture
def town(data: DataDir) -> Iterator[Town]:
    """web1 renewed its certificate yesterday; web2 has its packages and an old one; db1 cannot be seen."""
    store = open_store(data.database)
    try:
        town = Town(store)
        _people(town)
        yield town
    finally:
        store.close()


def _people(town: Town) -> None:
    libraries = town.section(vendor=(entry("/usr/lib/libcrypto.so.3", library()),))
    running = town.section(
        entry("nginx nginx.service", use(), path="/usr/lib/libssl.so.3", unit="nginx.service"), sampled=True
    )
    before = entry("/etc/nginx/site.pem", certificate(key=ec("secp256r1"), not_after=in_days(10)))
    after = entry("/etc/nginx/site.pem", certificate(key=ec("secp256r1"), not_after=in_days(300)))
    old = entry("/srv/old.pem", certificate("CN=old.example.com", key=rsa(1024), not_after=in_days(-20)))
    web1 = town.enrol(1, "web1", group="web")
    web2 = town.enrol(2, "web2", group="web")
    db1 = town.enrol(3, "db1")
    rest = {"libraries": libraries, "processes": running}
    town.post(web1, "web1", 60, certificates=town.section(before), **rest)
    town.post(web1, "web1", 1, certificates=town.section(after), **rest)
    town.post(web2, "web2", 50, certificates=town.section(after), **rest)
    town.post(web2, "web2", 0.5, certificates=town.section(after, old), **rest)
    town.post(db1, "db1", 0.5, certificates=nothing("failed", "it broke"), **rest)


@pytest.fixture
def fleet(data: DataDir, town: Town) -> Commands:
    """The command over that town."""
    return Commands(data)
