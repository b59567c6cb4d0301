# SPDX-License-Identifier: Apache-2.0
"""How is an asset said in one line, for people? Its kind's own words, or its fields where a kind has none."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.model import asset as assets
from agent.model.inventory import Entry
from agent.model.location import Location
from reports.algorithms import AlgorithmTable

# Identities say nothing to people and would fill the line.
_UNSAID = {"kind", "sha256", "build_id", "spki_sha256"}


def kind_of(asset: assets.Asset) -> str:
    """The word of a kind in documents: certificate, library, ..."""
    return str(type(asset).__struct_config__.tag)


def asset_words(asset: assets.Asset, table: AlgorithmTable) -> str:
    """One asset in one line.

    Args:
        asset: of any kind; one without words of its own is said by its fields.
        table: knows algorithms by the names people use.
    """
    match asset:
        case assets.Certificate():
            subject = asset.subject or "(no subject)"
            return f"{subject}, {table.words_of_key(asset.key)}, until {asset.not_after[:10]}"
        case assets.Library() | assets.LibraryUse():
            gone = " (deleted)" if isinstance(asset, assets.LibraryUse) and asset.deleted else ""
            return f"{asset.family} {asset.name} {asset.version or '(version not stated)'}{gone}"
        case assets.TrustStore():
            return (
                f"{len(asset.members)} certificates, {len(asset.added)} added and"
                f" {len(asset.removed)} removed against {asset.reference or 'no package'}"
            )
        case _:
            fields: dict[str, Any] = msgspec.to_builtins(asset)
            return ", ".join(
                f"{name} {_value(value)}" for name, value in fields.items() if name not in _UNSAID
            )


def place_words(where: Location) -> tuple[str, ...]:
    """Where an entry stands: path, executable, unit, container, as far as they are stated."""
    named = (
        where.path,
        where.exe and f"exe {where.exe}",
        where.unit and f"unit {where.unit}",
        where.container and f"container {where.container}",
    )
    return tuple(word for word in named if word)


def evidence(entry: Entry) -> tuple[str, ...]:
    """What a finding points at: the place, or the entry's key where the place is not stated."""
    return place_words(entry.where) or (entry.key,)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(_value(item) for item in value)
    return str(value)
