# SPDX-License-Identifier: Apache-2.0
"""What do the reports see of the fleet? Views of hosts, now or as of a moment, and a loader of parts."""

from __future__ import annotations

import datetime as dt
import functools

from agent.model import canonical
from agent.model.inventory import Entry, decode_part
from fleet import errors
from fleet.store import Store
from fleet.store.records import Snapshot
from reports.view import HostView, Loader

# A host id as people type it: enough of its beginning to be the only one.
_PREFIX_CHARS_MIN = 6
# Parts kept open. Hosts of one distribution share their large ones.
_PARTS_MAX = 4096


def views(store: Store, *, at: str | None = None, group: str | None = None) -> list[HostView]:
    """Every host of the fleet, or of one group, sorted by host id.

    Args:
        store: where they are kept.
        at: the moment to look at, as `moment` gives it; None means now.
        group: only hosts enrolled into it.
    """
    found = (_view(snapshot, at) for snapshot in store.snapshots(at=at))
    return [view for view in found if group is None or view.group == group]


def view(store: Store, name: str, *, at: str | None = None) -> HostView:
    """One host by what a person calls it: its host id, the beginning of it, or its name.

    Raises:
        errors.NotFoundError: none is called so at that moment, or several are.
    """
    exact = store.snapshots(at=at, host_id=name)
    if exact:
        return _view(exact[0], at)
    every = store.snapshots(at=at)
    found = [snapshot for snapshot in every if snapshot.host.name == name]
    if not found and name.startswith("h-") and len(name) >= _PREFIX_CHARS_MIN:
        found = [snapshot for snapshot in every if snapshot.host.host_id.startswith(name)]
    when = f" at {at}" if at else ""
    if not found:
        raise errors.NotFoundError(f"there is no host {name!r}{when}; `fleet hosts` lists them")
    if len(found) > 1:
        ids = ", ".join(snapshot.host.host_id for snapshot in found[:5])
        raise errors.NotFoundError(f"{len(found)} hosts are called {name!r}{when}; say which: {ids}")
    return _view(found[0], at)


def loader(store: Store) -> Loader:
    """A loader over the parts of this store; it remembers what it opened."""

    @functools.lru_cache(maxsize=_PARTS_MAX)
    def load(digest: str) -> tuple[Entry, ...]:
        body = store.part(digest)
        if body is None:
            raise errors.StoreError(f"part {digest} is named by a host and not in the store")
        return decode_part(body)

    return load


def moment(text: str) -> str:
    """A timestamp of ours from what a person writes: a date (its first moment) or ISO 8601, UTC by default.

    Raises:
        errors.UsageError: it is neither.
    """
    try:
        found = dt.datetime.fromisoformat(text)
        return canonical.timestamp_of(found if found.tzinfo else found.replace(tzinfo=dt.UTC))
    except (ValueError, OverflowError) as error:
        raise errors.UsageError(
            f"{text!r} is no moment; write 2026-03-31, 2026-03-31T12:00Z or 2026-03-31T12:00+02:00"
        ) from error


def _view(snapshot: Snapshot, at: str | None) -> HostView:
    host = snapshot.host
    return HostView(
        host_id=host.host_id,
        name=host.name,
        kind=host.kind,
        labels=host.labels,
        group=host.group,
        last_seen=snapshot.last_seen,
        as_of=at,
        sections=snapshot.sections,
    )
