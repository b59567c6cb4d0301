# SPDX-License-Identifier: Apache-2.0
"""What does the fleet hold, counted? Each part is opened once, however many hosts share it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.model import canonical
from agent.model.asset import Certificate, Library, LibraryUse
from agent.model.inventory import Entry
from reports.describe import kind_of
from reports.view import HostView, Loader, Origin, parts_of

LibraryName = tuple[str, str, str | None]
"""Family, name, version."""


@dataclass
class KindStock:
    """One kind of asset in one section, over the fleet."""

    entries: int = 0
    assets: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


@dataclass
class CertificateStock:
    """One certificate, wherever it is.

    Attributes:
        certificate: the asset.
        origins: vendor, local or both.
        hosts: identities of the hosts that have it.
        places: paths and keys where it stands.
    """

    certificate: Certificate
    origins: set[Origin] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


@dataclass
class Stock:
    """Everything counted.

    Attributes:
        kinds: by section and kind.
        entries: how many each host has.
        installed: hosts that have a library on disk.
        running: hosts where it was seen in use.
        certificates: by SHA-256 of their DER.
    """

    kinds: dict[tuple[str, str], KindStock] = field(default_factory=lambda: defaultdict(KindStock))
    entries: Counter[str] = field(default_factory=Counter)
    installed: dict[LibraryName, set[str]] = field(default_factory=lambda: defaultdict(set))
    running: dict[LibraryName, set[str]] = field(default_factory=lambda: defaultdict(set))
    certificates: dict[str, CertificateStock] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """What one part adds for every host that has it."""

    kinds: Counter[str]
    assets: tuple[tuple[str, str], ...]
    installed: frozenset[LibraryName]
    running: frozenset[LibraryName]
    certificates: tuple[tuple[Certificate, str], ...]


def stock(views: Iterable[HostView], load: Loader) -> Stock:
    """Count a fleet."""
    parts: dict[str, _Part] = {}
    total = Stock()
    for view in views:
        for section, state in view.sections.items():
            for origin, digest in parts_of(state):
                if digest not in parts:
                    parts[digest] = _counted(load(digest))
                _add(total, parts[digest], view.host_id, section, origin)
    return total


def _counted(entries: tuple[Entry, ...]) -> _Part:
    return _Part(
        kinds=Counter(kind_of(entry.asset) for entry in entries),
        assets=tuple(
            (kind_of(entry.asset), canonical.digest(canonical.encode(entry.asset))) for entry in entries
        ),
        installed=frozenset(
            (asset.family, asset.name, asset.version)
            for asset in _assets(entries)
            if isinstance(asset, Library)
        ),
        running=frozenset(
            (asset.family, asset.name, asset.version)
            for asset in _assets(entries)
            if isinstance(asset, LibraryUse)
        ),
        certificates=tuple(
            (entry.asset, entry.where.path or entry.key)
            for entry in entries
            if isinstance(entry.asset, Certificate)
        ),
    )


def _assets(entries: tuple[Entry, ...]) -> Iterable[object]:
    return (entry.asset for entry in entries)


def _add(total: Stock, part: _Part, host_id: str, section: str, origin: Origin) -> None:
    total.entries[host_id] += part.kinds.total()
    for kind, count in part.kinds.items():
        kinds = total.kinds[section, kind]
        kinds.entries += count
        kinds.hosts.add(host_id)
    for kind, digest in part.assets:
        total.kinds[section, kind].assets.add(digest)
    for name in part.installed:
        total.installed[name].add(host_id)
    for name in part.running:
        total.running[name].add(host_id)
    for certificate, place in part.certificates:
        known = total.certificates.setdefault(certificate.sha256, CertificateStock(certificate))
        known.origins.add(origin)
        known.hosts.add(host_id)
        known.places.add(place)
