# SPDX-License-Identifier: Apache-2.0
"""What is on one host? Its sections with their coverage, and on request the entries of one of them."""

from __future__ import annotations

import datetime as dt

import msgspec

from agent.model.inventory import Entry, SectionState
from reports.algorithms import AlgorithmTable
from reports.coverage import STALE_AFTER_DAYS, gaps
from reports.describe import asset_words, kind_of, place_words
from reports.document import Document, Fact, Table, columns
from reports.documents import unknown
from reports.view import HostView, Loader

SCHEMA = "cryptofleet.host/1"


def host_document(
    view: HostView,
    load: Loader,
    table: AlgorithmTable,
    at: dt.datetime,
    *,
    section: str | None = None,
    stale_after_days: int = STALE_AFTER_DAYS,
) -> Document:
    """One host.

    Args:
        view: the host.
        load: opens its parts.
        table: knows algorithms by the names people use.
        at: the moment against which its silence is measured.
        section: whose entries to list, one of `view.sections`; None lists the sections alone.
        stale_after_days: how many days of silence make it stale.
    """
    shown = sorted(view.sections) if section is None else [section]
    tables = [_sections(view, shown, load)]
    if section is not None:
        tables.append(_entries(view.sections[section], load, table))
    return Document(
        schema=SCHEMA,
        title=f"Host {view.name}",
        facts=(
            Fact(name="host", title="Host", value=view.name),
            Fact(name="host_id", title="Identity", value=view.host_id),
            Fact(name="kind", title="Kind", value=view.kind),
            Fact(name="group", title="Group", value=view.group),
            Fact(
                name="labels", title="Labels", value=tuple(f"{k}={v}" for k, v in sorted(view.labels.items()))
            ),
            Fact(name="last_seen", title="Last seen", value=view.last_seen),
            Fact(name="as_of", title="As of", value=view.as_of or "now"),
        ),
        tables=tuple(tables),
        unknown=unknown(gaps(view, shown, at, stale_after_days)),
    )


def _sections(view: HostView, names: list[str], load: Loader) -> Table:
    return Table(
        name="sections",
        title="Sections",
        columns=columns(
            ("section", "section"),
            ("status", "status"),
            ("meaning", "holds"),
            ("entries_local", "local"),
            ("entries_vendor", "vendor"),
            ("rung", "method"),
            detail=("reason", "skipped", "rung_reason", "detector", "digest_local", "digest_vendor"),
        ),
        rows=tuple(
            {
                "section": name,
                "status": state.status,
                "meaning": "what was seen in use" if state.sampled else "what is there",
                "entries_local": len(_loaded(state.parts.local, load)),
                "entries_vendor": len(_loaded(state.parts.vendor, load)),
                "rung": state.rung,
                "reason": state.reason,
                "skipped": state.skipped,
                "rung_reason": state.rung_reason,
                "detector": state.detector,
                "digest_local": state.parts.local,
                "digest_vendor": state.parts.vendor,
            }
            for name in names
            for state in (view.sections[name],)
        ),
        empty="The host has sent nothing yet.",
    )


def _entries(state: SectionState, load: Loader, table: AlgorithmTable) -> Table:
    both = [("local", entry) for entry in _loaded(state.parts.local, load)]
    both += [("vendor", entry) for entry in _loaded(state.parts.vendor, load)]
    return Table(
        name="entries",
        title="Entries",
        columns=columns(
            ("key", "key"),
            ("kind", "kind"),
            ("what", "what"),
            ("where", "where"),
            ("origin", "origin"),
            ("package", "package"),
            detail=("asset", "location"),
        ),
        rows=tuple(
            _entry(entry, origin, table) for origin, entry in sorted(both, key=lambda pair: pair[1].key)
        ),
        empty="No entry was found in this section.",
    )


def _entry(entry: Entry, origin: str, table: AlgorithmTable) -> dict[str, object]:
    place = place_words(entry.where)
    package = entry.where.package
    return {
        "key": entry.key,
        "kind": kind_of(entry.asset),
        "what": asset_words(entry.asset, table),
        # A key is a path more often than not; once is enough for people.
        "where": None if place == (entry.key,) else place,
        "origin": origin,
        "package": f"{package.name} {package.version or ''}".rstrip() if package else None,
        "asset": msgspec.to_builtins(entry.asset),
        "location": msgspec.to_builtins(entry.where),
    }


def _loaded(digest: str | None, load: Loader) -> tuple[Entry, ...]:
    return load(digest) if digest is not None else ()
