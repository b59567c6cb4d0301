# SPDX-License-Identifier: Apache-2.0
"""Which hosts are there, and how far can each be seen?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from agent.model import canonical
from reports.coverage import STALE_AFTER_DAYS, gaps
from reports.document import Document, Fact, Table, columns
from reports.documents import sections_of, unknown
from reports.view import HostView

SCHEMA = "cryptofleet.hosts/1"


def hosts_document(
    views: Sequence[HostView], at: dt.datetime, stale_after_days: int = STALE_AFTER_DAYS
) -> Document:
    """One row for each host, by name.

    Args:
        views: the hosts.
        at: the moment against which silence is measured.
        stale_after_days: how many days of silence make a host stale.
    """
    ordered = sorted(views, key=lambda view: (view.name, view.host_id))
    asked = sections_of(ordered)
    by_host = {view.host_id: gaps(view, asked, at, stale_after_days) for view in ordered}
    rows = tuple(
        {
            "host": view.name,
            "host_id": view.host_id,
            "kind": view.kind,
            "group": view.group,
            "last_seen": view.last_seen,
            "sections_complete": sum(state.status == "complete" for state in view.sections.values()),
            "sections": len(asked),
            "unknown": tuple(gap.section or gap.status for gap in by_host[view.host_id]),
            "labels": view.labels,
        }
        for view in ordered
    )
    table = Table(
        name="hosts",
        title="Hosts",
        columns=columns(
            ("host", "host"),
            ("host_id", "identity"),
            ("kind", "kind"),
            ("group", "group"),
            ("last_seen", "last seen"),
            ("sections_complete", "complete"),
            ("sections", "of sections"),
            ("unknown", "not known"),
            detail=("labels",),
        ),
        rows=rows,
        empty="No host is known here.",
    )
    return Document(
        schema=SCHEMA,
        title="Hosts",
        facts=(
            Fact(name="at", title="At", value=canonical.timestamp_of(at)),
            Fact(name="hosts", title="Hosts", value=len(rows)),
        ),
        tables=(table,),
        unknown=unknown(gap for found in by_host.values() for gap in found),
    )
