# SPDX-License-Identifier: Apache-2.0
"""Write a report over the fleet: what it holds, and whether that is allowed."""

from __future__ import annotations

import datetime as dt

import click

from agent.model import canonical
from fleet import config
from fleet.cli._options import data_option
from fleet.cli._questions import (
    EXIT_FOUND,
    Fleet,
    MomentType,
    format_option,
    group_option,
    now,
    opened,
    read_policies,
    say,
    stale_option,
)
from reports import algorithms, policy
from reports.assess import Assessment, assess
from reports.changes import FindingChange, changes
from reports.documents.changes import changes_document
from reports.documents.compliance import compliance_document
from reports.documents.inventory import inventory_document
from reports.judge import Judge
from reports.policy import Policy

_AS_OF_HELP = (
    "Evaluate for this date: 2026-03-31, 2026-03-31T12:00Z, 2d. In the past the fleet is taken as it was;"
    " in the future as it is now."
)


@click.group()
def command() -> None:
    """Reports over the fleet. Each ends with what is not known."""


@command.command(
    epilog="""\b
Examples:
  fleet report inventory
  fleet report inventory --group web --format markdown
  fleet report inventory --as-of 2027-01-01       which certificates will have expired by then?
  fleet report inventory --format json | jq '.tables.libraries[] | select(.name == "libssl")'

Exit codes: 0 done; 1 failure; 2 usage."""
)
@data_option
@format_option
@group_option
@stale_option
@click.option("--as-of", type=MomentType(), help=_AS_OF_HELP)
def inventory(
    *, data: config.DataDir, format_: str, group: str | None, stale_after_days: int, as_of: str | None
) -> None:
    """What the fleet holds: kinds, libraries by how common they are, certificates by their end."""
    asked = now()
    at = canonical.parse_timestamp(as_of) if as_of else asked
    with opened(data) as fleet:
        document = inventory_document(
            fleet.hosts(at=_seen_at(at, asked), group=group),
            fleet.load,
            algorithms.shipped(),
            at,
            now=asked,
            stale_after_days=stale_after_days,
        )
        say(document, format_)


@command.command(
    epilog=f"""\b
Examples:
  fleet report compliance
  fleet report compliance --policy hygiene --policy ./house.toml --format markdown
  fleet report compliance --as-of 2027-01-01      what will have expired by then?
  fleet report compliance --diff --since 30d      what is new, resolved, still open, not known any more?
  fleet report compliance --exit-code             for a pipeline: 3 unless everything passes
  fleet report compliance --format json | jq '.tables.findings[] | select(.verdict == "fail")'

Policies that ship: {", ".join(policy.shipped_names())}. Unknown never counts as pass.

\b
Exit codes: 0 done, whatever was found; 1 failure; 2 usage;
with --exit-code also 3: a host fails a rule or is unknown under one (a warning alone
is 0), or there is no host;
with --diff --exit-code 3: a finding is new or newly known, or something became unknown."""
)
@data_option
@format_option
@group_option
@stale_option
@click.option(
    "--policy",
    "policies",
    metavar="NAME|FILE",
    multiple=True,
    default=("hygiene",),
    show_default=True,
    help="A policy that ships, or a TOML file; may be given several times.",
)
@click.option("--as-of", type=MomentType(), help=_AS_OF_HELP)
@click.option("--diff", "as_diff", is_flag=True, help="What became of the findings since --since.")
@click.option("--since", type=MomentType(), help="With --diff: 30d, 2026-03-31 or 2026-03-31T12:00Z.")
@click.option("--exit-code", is_flag=True, help="End with 3 unless everything passes.")
def compliance(  # noqa: PLR0913 - one argument for each option
    *,
    data: config.DataDir,
    format_: str,
    group: str | None,
    stale_after_days: int,
    policies: tuple[str, ...],
    as_of: str | None,
    as_diff: bool,
    since: str | None,
    exit_code: bool,
) -> None:
    """Which hosts keep which rules, and every finding with its evidence."""
    asked = now()
    at = canonical.parse_timestamp(as_of) if as_of else asked
    before = _since(since, at, asked, as_diff=as_diff)
    table = algorithms.shipped()
    read = read_policies(policies, table)
    with opened(data) as fleet:
        judging = _Judging(fleet, read, group, stale_after_days, asked)
        later = judging.at(at)
        if before is None:
            document, found = compliance_document(later, table), _is_open(later)
        else:
            earlier = judging.at(before)
            change = changes(earlier, later)
            document = changes_document(change, earlier, later, table)
            found = any(_is_worse(one) for one in change)
        say(document, format_)
    if exit_code and found:
        raise SystemExit(EXIT_FOUND)


class _Judging:
    """What the assessments of one command share: the fleet, the policies and what is judged already."""

    def __init__(
        self,
        fleet: Fleet,
        policies: list[Policy],
        group: str | None,
        stale_after_days: int,
        asked: dt.datetime,
    ) -> None:
        self.fleet = fleet
        self.policies = policies
        self.group = group
        self.stale_after_days = stale_after_days
        self.asked = asked
        self.judge = Judge()

    def at(self, moment: dt.datetime) -> Assessment:
        """The fleet judged for a moment."""
        return assess(
            self.fleet.hosts(at=_seen_at(moment, self.asked), group=self.group),
            self.fleet.load,
            self.policies,
            moment,
            judge=self.judge,
            now=self.asked,
            stale_after_days=self.stale_after_days,
        )


def _seen_at(at: dt.datetime, asked: dt.datetime) -> str | None:
    """The moment as of which to take the fleet: the past as it was; None, which is now, for now and later."""
    return canonical.timestamp_of(at) if at < asked else None


def _since(since: str | None, at: dt.datetime, asked: dt.datetime, *, as_diff: bool) -> dt.datetime | None:
    if as_diff != (since is not None):
        raise click.UsageError("--diff and --since belong together")
    if since is None:
        return None
    before = canonical.parse_timestamp(since)
    if before >= min(at, asked):
        raise click.UsageError("--since must lie before now, and before --as-of")
    return before


def _is_worse(change: FindingChange) -> bool:
    """Whether there is more to do, or less to see, than before."""
    return change.change in {"new", "became-unknown"} or (change.change == "became-known" and change.is_open)


def _is_open(assessment: Assessment) -> bool:
    # Without a host nothing passes either: a pipeline that asks about the wrong time must not be green.
    return not assessment.hosts or any(
        tally.hosts.get("fail") or tally.hosts.get("unknown") for tally in assessment.tallies
    )
