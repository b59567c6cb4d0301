# SPDX-License-Identifier: Apache-2.0
"""Show what differs between two hosts, or on one host since a moment."""

from __future__ import annotations

import click

from fleet import config, errors
from fleet.cli._options import data_option
from fleet.cli._questions import EXIT_FOUND, Fleet, PastMomentType, format_option, opened, say
from reports import algorithms
from reports.compare import Difference, compare
from reports.documents.difference import difference_document


@click.command(
    epilog="""\b
Examples:
  fleet diff web6 web7                            what is different on web7?
  fleet diff web7 --since 2d                      what changed there in two days?
  fleet diff web7 --since 2026-03-31 --until 2026-04-02
  fleet diff web7 --since 1d --exit-code || echo "web7 changed"
  fleet diff web6 web7 --format json | jq '.tables.drift[] | {key, fields}'

Drift (what is there), usage (what was seen in use) and what only a new version of a detector explains stand
apart. A section that one side could not see is not compared, and said so.

\b
Exit codes: 0 done, whether or not something differs; 1 failure; 2 usage;
with --exit-code also 3: something differs, or a side did not see everything."""
)
@click.argument("host")
@click.argument("other", required=False)
@data_option
@format_option
@click.option("--since", type=PastMomentType(), help="Compare HOST then with now: 2d, 2026-03-31, ...")
@click.option("--until", type=PastMomentType(), help="With --since: compare with then instead of now.")
@click.option("--exit-code", is_flag=True, help="End with 3 unless both are equal.")
def command(
    *,
    host: str,
    other: str | None,
    data: config.DataDir,
    format_: str,
    since: str | None,
    until: str | None,
    exit_code: bool,
) -> None:
    """Show what differs between HOST and OTHER, or on HOST since a moment."""
    _check(other, since, until)
    with opened(data) as fleet:
        found = _difference(fleet, host, other, since, until)
        say(difference_document(found, algorithms.shipped()), format_)
    if exit_code and found.equal != "yes":
        raise SystemExit(EXIT_FOUND)


def _check(other: str | None, since: str | None, until: str | None) -> None:
    if (other is None) == (since is None):
        raise click.UsageError("name two hosts, or one host and --since")
    if until is not None and since is None:
        raise click.UsageError("--until belongs to --since")
    if until is not None and since is not None and until <= since:
        raise click.UsageError("--until must be later than --since")


def _difference(
    fleet: Fleet, host: str, other: str | None, since: str | None, until: str | None
) -> Difference:
    after = fleet.host(host, at=until)
    if other is not None:
        return compare(after, fleet.host(other), fleet.load)
    try:
        # Under the same name another host may have answered then: its identity is what stays.
        before = fleet.host(after.host_id, at=since)
    except errors.NotFoundError as error:
        raise errors.NotFoundError(
            f"{after.name} had not enrolled yet at {since}, so there is nothing to compare with;"
            f" name a later moment"
        ) from error
    return compare(before, after, fleet.load)
