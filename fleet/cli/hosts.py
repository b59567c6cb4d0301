# SPDX-License-Identifier: Apache-2.0
"""List the hosts of the fleet and how far each can be seen."""

from __future__ import annotations

import click

from agent.model import canonical
from fleet import config
from fleet.cli._options import data_option
from fleet.cli._questions import PastMomentType, format_option, group_option, now, opened, say, stale_option
from reports.documents.hosts import hosts_document


@click.command(
    epilog="""\b
Examples:
  fleet hosts
  fleet hosts --group web --format csv > hosts.csv
  fleet hosts --format json | jq -r '.tables.hosts[] | select(.unknown != []) | .host'
  fleet hosts --at 30d                            as they were 30 days ago

Exit codes: 0 done; 1 failure; 2 usage."""
)
@data_option
@format_option
@group_option
@stale_option
@click.option("--at", type=PastMomentType(), help="As they were then: 2d, 2026-03-31 or 2026-03-31T12:00Z.")
def command(
    *, data: config.DataDir, format_: str, group: str | None, stale_after_days: int, at: str | None
) -> None:
    """List the hosts of the fleet and how far each can be seen."""
    moment = canonical.parse_timestamp(at) if at else now()
    with opened(data) as fleet:
        say(hosts_document(fleet.hosts(at=at, group=group), moment, stale_after_days), format_)
