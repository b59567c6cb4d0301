# SPDX-License-Identifier: Apache-2.0
"""Show what is known of one host."""

from __future__ import annotations

import click

from agent.model import canonical
from fleet import config, errors
from fleet.cli._options import data_option
from fleet.cli._questions import PastMomentType, format_option, now, opened, say, stale_option
from reports import algorithms
from reports.documents.host import host_document
from reports.view import HostView


@click.command(
    epilog="""\b
Examples:
  fleet show web7
  fleet show web7 --section certificates
  fleet show h-9f86d081 --section processes --format json | jq '.tables.entries[].asset'
  fleet show web7 --at 2026-03-31                 as it was at the beginning of that day

HOST is a name, an identity, or the beginning of one; a name that several hosts have is refused with the list
of them. Exit codes: 0 done; 1 failure, such as a host that is not there; 2 usage."""
)
@click.argument("host")
@data_option
@format_option
@stale_option
@click.option("--section", metavar="NAME", help="List the entries of this section.")
@click.option("--at", type=PastMomentType(), help="As it was then: 2d, 2026-03-31 or 2026-03-31T12:00Z.")
def command(
    *,
    host: str,
    data: config.DataDir,
    format_: str,
    stale_after_days: int,
    section: str | None,
    at: str | None,
) -> None:
    """Show what is known of one host: its sections, or the entries of one."""
    moment = canonical.parse_timestamp(at) if at else now()
    with opened(data) as fleet:
        view = fleet.host(host, at=at)
        if section is not None:
            _require_section(view, section)
        document = host_document(
            view, fleet.load, algorithms.shipped(), moment, section=section, stale_after_days=stale_after_days
        )
        say(document, format_)


def _require_section(view: HostView, section: str) -> None:
    if section not in view.sections:
        there = ", ".join(sorted(view.sections)) or "none"
        raise errors.NotFoundError(f"{view.name} has no section {section!r}; it has: {there}")
