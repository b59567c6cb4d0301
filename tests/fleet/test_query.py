# SPDX-License-Identifier: Apache-2.0
"""Do the reports see of the fleet what the store knows, by the names people use?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import canonical
from agent.model.inventory import decode_part
from fleet import errors, query
from fleet.store import open_store
from tests.fleet.documents import certificate, part, section
from tests.fleet.store.contract import Fleet, at


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A store with a clock."""
    store = open_store(tmp_path / "fleet.db", create=True)
    yield Fleet(store)
    store.close()


def test_a_view_is_the_host_as_the_store_knows_it(fleet: Fleet) -> None:
    """Name, labels, group, when it was seen, and every section with its status and digests."""
    host_id = fleet.host(group="web")
    said = {"libraries": section(local=part(1)), "host": section(status="failed", reason="no")}
    fleet.upload(host_id, part(1))
    fleet.say(host_id, said, hostname="web7", labels={"env": "prod"})
    (view,) = query.views(fleet.store)
    assert (view.host_id, view.name, view.kind) == (host_id, "web7", "agent")
    assert (view.labels, view.group) == ({"env": "prod"}, "web")
    assert (view.last_seen, view.as_of, view.sections) == (at(fleet.now_ns), None, said)


def test_a_view_of_a_moment_says_of_which(fleet: Fleet) -> None:
    """So that a report can name it."""
    host_id = fleet.host()
    fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
    then = at(fleet.now_ns)
    fleet.show(host_id, {"libraries": section(local=part(2))}, part(2))
    (view,) = query.views(fleet.store, at=then)
    assert (view.as_of, view.last_seen) == (then, then)
    assert view.sections == {"libraries": section(local=part(1))}
    assert query.view(fleet.store, host_id).sections == {"libraries": section(local=part(2))}


def test_a_host_that_never_posted_is_in_the_fleet(fleet: Fleet) -> None:
    """Silence is not health: it must show up, as unknown."""
    fleet.host()
    (view,) = query.views(fleet.store)
    assert (view.last_seen, view.sections) == (None, {})


def test_groups_narrow_the_fleet(fleet: Fleet) -> None:
    """A report about some hosts."""
    fleet.host(group="web")
    database = fleet.host(group="db")
    assert [view.host_id for view in query.views(fleet.store, group="db")] == [database]
    assert query.views(fleet.store, group="none") == []


def test_a_host_is_found_by_what_people_call_it(fleet: Fleet) -> None:
    """By its id, the beginning of it, or its name; and never by guess."""
    ids = [fleet.host() for _ in range(3)]
    for host_id, name in zip(ids, ("web1", "web2", "web2"), strict=True):
        fleet.say(host_id, {}, hostname=name)
    assert query.view(fleet.store, ids[0]).host_id == ids[0]
    assert query.view(fleet.store, ids[1][:10]).host_id == ids[1]
    assert query.view(fleet.store, "web1").host_id == ids[0]
    with pytest.raises(errors.NotFoundError, match=ids[1]) as found:
        query.view(fleet.store, "web2")
    assert ids[2] in str(found.value)
    for unknown in ("web9", "h-", "h-ffffffffff", ""):
        with pytest.raises(errors.NotFoundError, match="no host"):
            query.view(fleet.store, unknown)


def test_the_loader_opens_parts_and_remembers_them(fleet: Fleet) -> None:
    """What a fleet shares is opened once."""
    host_id = fleet.host()
    fleet.show(host_id, {"libraries": section(local=part(1, 2))}, part(1, 2))
    load = query.loader(fleet.store)
    digest = canonical.digest(part(1, 2))
    assert load(digest) == (certificate(1), certificate(2)) == decode_part(part(1, 2))
    assert load(digest) is load(digest)
    with pytest.raises(errors.StoreError, match="not in the store"):
        load(canonical.digest(b""))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-03-31", "2026-03-31T00:00:00.000000Z"),
        ("2026-03-31T12:30", "2026-03-31T12:30:00.000000Z"),
        ("2026-03-31T12:30:01.5Z", "2026-03-31T12:30:01.500000Z"),
        ("2026-03-31T12:30+02:00", "2026-03-31T10:30:00.000000Z"),
        ("2026-03-31T00:00:00.000000Z", "2026-03-31T00:00:00.000000Z"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, found: str) -> None:
    """A date is its first moment; without an offset it is UTC."""
    assert query.moment(text) == found


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "31.3.2026", "0001-01-01T00:00+05:00"])
def test_what_is_no_moment_is_told(text: str) -> None:
    """With examples of one."""
    with pytest.raises(errors.UsageError, match="2026-03-31"):
        query.moment(text)
