# SPDX-License-Identifier: Apache-2.0
"""The note of what became of the last post, and a look at the spool that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.posting import last_post, spool
from agent.posting.identity import ensure_key
from agent.state import StateDirectory
from tests.agent.given import draft

NOON_NS = 1_795_262_400_000_000_000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """A state directory in which nothing has happened yet."""
    with StateDirectory(str(tmp_path / "agent")) as directory:
        yield directory


def test_where_nothing_was_posted_there_is_nothing_to_tell(state: StateDirectory) -> None:
    """And nothing is made up."""
    assert last_post.load(state) == last_post.LastPost()
    assert spool.glimpse(state) == spool.Glimpse(counts=spool.Counts(), is_waiting=False, damaged=())


def test_a_delivery_is_noted_and_a_failure_after_it_beside_it(state: StateDirectory) -> None:
    """At 3 a.m. both count: since when it fails, and what arrived last."""
    last_post.note_delivery(state, NOON_NS, outcome="accepted", seq=7, next_post_s=600)
    last_post.note_failure(state, NOON_NS + 60_000_000_000, "no route to host")

    assert last_post.load(state) == last_post.LastPost(
        delivered_at="2026-11-21T12:00:00.000000Z",
        outcome="accepted",
        seq=7,
        next_post_s=600,
        failed_at="2026-11-21T12:01:00.000000Z",
        failure="no route to host",
    )


def test_the_next_delivery_ends_the_failure(state: StateDirectory) -> None:
    """What is over must not alarm anybody."""
    last_post.note_failure(state, NOON_NS, "no route to host")
    last_post.note_delivery(state, NOON_NS, outcome="unchanged", seq=8, next_post_s=None)

    assert last_post.load(state).failure is None


def test_a_note_that_is_none_is_no_note(state: StateDirectory) -> None:
    """Nothing is decided by it, so nothing fails by it."""
    state.write("last_post.json", b"\xff{")

    assert last_post.load(state) == last_post.LastPost()


def test_a_disk_that_takes_no_note_fails_no_post(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is at the collector; that is what a post is for."""

    def full(*_: object) -> None:
        raise errors.StateError("no space left")

    monkeypatch.setattr(state, "write", full)

    last_post.note_delivery(state, NOON_NS, outcome="accepted", seq=1, next_post_s=60)
    last_post.note_failure(state, NOON_NS, "x" * 10_000)


def test_a_glimpse_sees_what_waits_and_what_is_damaged_and_leaves_both(state: StateDirectory) -> None:
    """`status` is for looking: the next run sets aside and counts."""
    # Given a state that waits
    own = spool.Spool(state, ensure_key(state))
    own.put(draft())
    assert spool.glimpse(state).is_waiting
    assert spool.glimpse(state).counts.seq == 1

    # When its bytes, and those of the counter, are damaged
    for name in ("spool", "counter"):
        path = Path(state.path, name)
        path.write_bytes(path.read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in Path(state.path).iterdir()}

    # Then that is said, and everything is as it was
    found = spool.glimpse(state)
    assert (found.is_waiting, found.damaged, found.counts) == (False, ("counter", "spool"), spool.Counts())
    assert {path.name: path.read_bytes() for path in Path(state.path).iterdir()} == before
