# SPDX-License-Identifier: Apache-2.0
"""What does a judge see of one host? Its sections by digest, now or as of a moment, and a way to open a part.

A view holds no entries. What a fleet shares is opened, judged and compared once, by its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from agent.model.inventory import Entry, HostKind, SectionState

Loader = Callable[[str], tuple[Entry, ...]]
"""Entries of the part with this digest, sorted by key. Parts are immutable, so the answer never changes."""


Origin = Literal["vendor", "local"]
"""vendor: a distribution package owns it. local: everything else."""


class HostView(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """One host as the store knew it at one moment.

    Attributes:
        host_id: the identity; `name` helps people and need not be unique.
        kind: how its inventories come: agent, ssh, import, external.
        labels: the operator's own words for it.
        group: the group it was enrolled into.
        last_seen: timestamp of its newest post, also an unchanged one, by the server's clock; None when it
            never posted.
        as_of: the moment this view speaks of; None means now.
        sections: by scanner name; a section the host has never sent is not in it.
    """

    host_id: str
    name: str
    kind: HostKind = "agent"
    labels: dict[str, str] = {}
    group: str | None = None
    last_seen: str | None = None
    as_of: str | None = None
    sections: dict[str, SectionState] = {}


def parts_of(state: SectionState | None) -> list[tuple[Origin, str]]:
    """Digests of the parts that a section has, vendor first; none for a section the host has not sent."""
    if state is None:
        return []
    both: tuple[tuple[Origin, str | None], ...] = (
        ("vendor", state.parts.vendor),
        ("local", state.parts.local),
    )
    return [(origin, digest) for origin, digest in both if digest is not None]
