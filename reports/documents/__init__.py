# SPDX-License-Identifier: Apache-2.0
"""Documents: one file per report, each turning views, verdicts or differences into facts and tables.

`reports/README.md` lists their schemas, tables and columns; whoever reads the JSON relies on them.
"""

from __future__ import annotations

from collections.abc import Iterable

from reports.coverage import Gap
from reports.document import Table, columns
from reports.view import HostView


def sections_of(views: Iterable[HostView]) -> list[str]:
    """Every section that any of the hosts has sent, sorted: what one of them lacks is missing there."""
    return sorted({section for view in views for section in view.sections})


def unknown(gaps: Iterable[Gap]) -> Table:
    """The table of what is not known, which closes every document."""
    rows = tuple(
        {
            "host": gap.host,
            "section": gap.section,
            "status": gap.status,
            "reason": gap.reason,
            "host_id": gap.host_id,
            "examples": gap.examples,
        }
        for gap in gaps
    )
    return Table(
        name="unknown",
        title="What is not known",
        columns=columns(
            ("host", "host"),
            ("section", "section"),
            ("status", "status"),
            ("reason", "reason"),
            detail=("host_id", "examples"),
        ),
        rows=rows,
        empty="Nothing: every section asked about is complete on every host.",
    )
