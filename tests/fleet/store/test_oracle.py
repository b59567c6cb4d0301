# SPDX-License-Identifier: Apache-2.0
"""Is the store, whatever is done to it in whatever order, what a few dictionaries would be?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.model import canonical
from agent.model.inventory import SectionState
from fleet.store import open_store
from fleet.store.records import Accepted, Ahead, HostGone, Missing, Post, PostOutcome, Unchanged
from tests.fleet.documents import part, section
from tests.fleet.store.contract import SECOND_NS, Fleet, at

pytestmark = pytest.mark.slow

_HOSTS = 3
_PARTS = 5
_LEASE_NS = 20 * SECOND_NS

_bodies = st.integers(0, _PARTS - 1)
_states = st.one_of(
    st.builds(
        lambda vendor, local, detector, sampled: section(
            vendor=None if vendor is None else part(vendor),
            local=None if local is None else part(local),
            detector=detector,
            sampled=sampled,
        ),
        st.none() | _bodies,
        st.none() | _bodies,
        st.integers(1, 2),
        st.booleans(),
    ),
    st.builds(
        lambda number, denied: section(
            local=part(number),
            status="partial",
            reason="denied",
            skipped={"denied": denied},
            examples=("/a",),
        ),
        _bodies,
        st.integers(1, 2),
    ),
    st.sampled_from(
        [section(status="failed", reason="no"), section(status="absent", reason="none", rung="maps")]
    ),
)
_sections = st.dictionaries(st.sampled_from(["host", "libraries", "processes"]), _states, max_size=3)


@dataclass
class _Host:
    """What a host has said, as an oracle remembers it."""

    seq: int = 0
    last: Post | None = None
    answer: PostOutcome | None = None
    uploaded: dict[str, int] = field(default_factory=dict)
    referred: set[tuple[str, str]] = field(default_factory=set)
    history: list[tuple[int, dict[str, SectionState]]] = field(default_factory=list)
    revoked_ns: int | None = None

    def said(self) -> dict[str, SectionState]:
        return self.history[-1][1] if self.history else {}


def _digests(state: SectionState) -> set[str]:
    return {digest for digest in (state.parts.vendor, state.parts.local) if digest}


class StoreMachine(RuleBasedStateMachine):
    """Hosts upload, post, repeat themselves, miscount, are revoked; garbage is collected; time passes."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "fleet.db"
        self.fleet = Fleet(open_store(self.path, create=True))
        self.hosts = {self.fleet.host(): _Host() for _ in range(_HOSTS)}
        self.ids = list(self.hosts)
        self.begun_ns = self.fleet.now_ns
        self.changes = 0

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.store.close()
            self.directory.cleanup()

    @rule(who=st.integers(0, _HOSTS - 1), number=_bodies)
    def upload(self, who: int, number: int) -> None:
        host = self.hosts[self.ids[who]]
        kept = self.fleet.upload(self.ids[who], part(number), lease_ns=_LEASE_NS)
        assert kept == (host.revoked_ns is None)
        if kept:
            host.uploaded[canonical.digest(part(number))] = self.fleet.now_ns + _LEASE_NS

    @rule(who=st.integers(0, _HOSTS - 1), step=st.integers(-2, 3), said=_sections)
    def post(self, who: int, step: int, said: dict[str, SectionState]) -> None:
        host = self.hosts[self.ids[who]]
        seq = max(1, host.seq + step)
        post = self.fleet.post(self.ids[who], seq, said)
        self._give(host, post)

    @rule(who=st.integers(0, _HOSTS - 1))
    def say_the_same(self, who: int) -> None:
        host = self.hosts[self.ids[who]]
        self._give(host, self.fleet.post(self.ids[who], host.seq + 1, host.said()))

    @rule(who=st.integers(0, _HOSTS - 1))
    def repeat(self, who: int) -> None:
        host = self.hosts[self.ids[who]]
        if host.last is not None:
            self.fleet.tick()
            self._give(host, host.last)

    def _give(self, host: _Host, post: Post) -> None:
        outcome = self.fleet.store.put_state(post).result()
        assert outcome == self._expected(host, post)
        if not isinstance(outcome, Accepted | Unchanged) or post is host.last:
            return
        said = post.manifest.sections
        for name, state in said.items():
            if host.said().get(name) != state:
                host.referred |= {(name, digest) for digest in _digests(state)}
                for digest in _digests(state):
                    host.uploaded.pop(digest, None)
        names = said.keys() | host.said().keys()
        self.changes += sum(host.said().get(name) != said.get(name) for name in names)
        host.seq, host.last, host.answer = post.manifest.seq, post, outcome
        host.history.append((post.received_ns, said))

    def _expected(self, host: _Host, post: Post) -> PostOutcome:
        if host.revoked_ns is not None:
            return HostGone()
        if host.last is not None and post.manifest_bytes == host.last.manifest_bytes:
            assert host.answer is not None
            return host.answer
        if post.manifest.seq <= host.seq:
            return Ahead(host.seq)
        before, said = host.said(), post.manifest.sections
        held = {digest for state in before.values() for digest in _digests(state)}
        missing = {
            digest
            for name, state in said.items()
            if before.get(name) != state
            for digest in _digests(state) - held
            if digest not in host.uploaded and (name, digest) not in host.referred
        }
        if missing:
            return Missing(tuple(sorted(missing)))
        return Unchanged(post.manifest.seq) if before == said else Accepted(post.manifest.seq)

    @rule(who=st.integers(0, _HOSTS - 1))
    def revoke(self, who: int) -> None:
        host = self.hosts[self.ids[who]]
        now_ns = self.fleet.tick()
        assert self.fleet.store.revoke_host(self.ids[who], actor="operator:test", now_ns=now_ns).result()
        if host.revoked_ns is None:
            host.revoked_ns = now_ns
            self.changes += len(host.said())

    @rule()
    def collect(self) -> None:
        self.fleet.store.collect_garbage(now_ns=self.fleet.now_ns).result()
        for host in self.hosts.values():
            host.uploaded = {
                digest: until for digest, until in host.uploaded.items() if until > self.fleet.now_ns
            }

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.fleet.tick(seconds * SECOND_NS)

    @rule()
    def reopen(self) -> None:
        self.fleet.store.close()
        self.fleet.store = open_store(self.path)

    @rule(back=st.integers(0, 200))
    def look_back(self, back: int) -> None:
        """As of any moment, each host is what it had said by then."""
        moment_ns = max(self.begun_ns, self.fleet.now_ns - back * SECOND_NS)
        found = {one.host.host_id: one.sections for one in self.fleet.store.snapshots(at=at(moment_ns))}
        for host_id, host in self.hosts.items():
            if host.revoked_ns is not None and host.revoked_ns <= moment_ns:
                assert host_id not in found
                continue
            said: dict[str, SectionState] = {}
            for since_ns, sections in host.history:
                if since_ns <= moment_ns:
                    said = sections
            assert found[host_id] == said

    @invariant()
    def now_is_what_was_said_last(self) -> None:
        if not hasattr(self, "fleet"):
            return
        found = {one.host.host_id: (one.sections, one.host.seq) for one in self.fleet.store.snapshots()}
        assert found == {
            host_id: (host.said(), host.seq or None)
            for host_id, host in self.hosts.items()
            if host.revoked_ns is None
        }
        assert len(self.fleet.store.changes()) == self.changes
        for host in self.hosts.values():
            for name, digest in host.referred:
                assert self.fleet.store.part(digest) is not None, name
        assert self.fleet.store.check_audit() is None


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=40)
