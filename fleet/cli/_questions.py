# SPDX-License-Identifier: Apache-2.0
"""What do the commands that ask share? Moments, policies, formats, and how an answer is printed."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.model import canonical
from fleet import config, errors, query
from fleet.cli._options import DurationType, open_data
from fleet.store import Store
from reports import formats, policy
from reports.algorithms import AlgorithmTable
from reports.coverage import STALE_AFTER_DAYS
from reports.document import Document
from reports.policy import Policy
from reports.view import HostView, Loader

F = TypeVar("F", bound=Callable[..., Any])

# With --exit-code: the answer holds what the caller asked to be told of. 1 and 2 stay what they always are.
EXIT_FOUND = 3


class MomentType(click.ParamType[str]):
    """A moment: 2d (that long ago), 2026-03-31, or 2026-03-31T12:00Z. The value is a timestamp of ours."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """A timestamp."""
        text = str(value)
        try:
            if text[-1:] in {"s", "m", "h", "d"} and text[:-1].isdigit():
                seconds = DurationType().convert(text, param, ctx)
                return canonical.timestamp_of(now() - dt.timedelta(seconds=seconds))
            return query.moment(text)
        except errors.UsageError as error:
            self.fail(f"{error}, or 2d for two days ago", param, ctx)
        except OverflowError:
            self.fail(f"{text!r} is before the calendar begins", param, ctx)


class PastMomentType(MomentType):
    """A moment at which the fleet has been: not in the future, which nobody has seen."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """A timestamp, now at the latest."""
        moment = super().convert(value, param, ctx)
        if moment > canonical.timestamp_of(now()):
            self.fail(f"{value} lies in the future; only `report compliance --as-of` looks ahead", param, ctx)
        return moment


@dataclass(frozen=True)
class Fleet:
    """The store as a question sees it."""

    store: Store
    load: Loader

    def hosts(self, *, at: str | None = None, group: str | None = None) -> list[HostView]:
        """Every host, now or as it was.

        Raises:
            errors.NotFoundError: no host is in that group: a slip of the pen must not look like health.
        """
        found = query.views(self.store, at=at, group=group)
        if group is not None and not found:
            groups = {view.group for view in query.views(self.store) if view.group}
            if group not in groups:
                known = ", ".join(sorted(groups)) or "none"
                raise errors.NotFoundError(f"no host is in a group {group!r}; there are: {known}")
        return found

    def host(self, name: str, *, at: str | None = None) -> HostView:
        """One host by name, identity or the beginning of it."""
        return query.view(self.store, name, at=at)


@contextlib.contextmanager
def opened(data: config.DataDir) -> Iterator[Fleet]:
    """The fleet in a data directory, let go of at the end."""
    store = open_data(data)
    try:
        yield Fleet(store, query.loader(store))
    finally:
        store.close()


def now() -> dt.datetime:
    """The moment of asking, by this machine's clock."""
    return dt.datetime.fromtimestamp(time.time(), tz=dt.UTC)


def format_option(function: F) -> F:
    """`--format NAME`: one of the formats in reports/formats, given to the command as `format_`."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats.names()),
        default="table",
        show_default=True,
        help="How the answer is written.",
    )(function)


def group_option(function: F) -> F:
    """`--group NAME`."""
    return click.option("--group", metavar="NAME", help="Only hosts that were enrolled into this group.")(
        function
    )


def stale_option(function: F) -> F:
    """`--stale-after-days N`."""
    return click.option(
        "--stale-after-days",
        type=click.IntRange(1, 3650),
        default=STALE_AFTER_DAYS,
        show_default=True,
        help="A host that has been silent for longer is unknown.",
    )(function)


def say(document: Document, format_: str) -> None:
    """Print a document."""
    text = formats.load(format_).render(document)
    # A terminal that cannot show a character gets its number instead of ending the command.
    encoding = "utf-8" if not sys.stdout.isatty() else sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace"), nl=False)


def read_policies(names: tuple[str, ...], table: AlgorithmTable) -> list[Policy]:
    """Policies by the names under which they ship, or from files.

    Args:
        names: what stands in `hygiene`, or a path with a slash or the ending .toml.
        table: what their conditions on algorithms ask.

    Raises:
        errors.UsageError: no policy ships under that name, or one is named twice.
        errors.ConfigError: a file cannot be read, or does not say what a policy says.
    """
    found = [_read_policy(name, table) for name in names]
    twice = {one.name for one in found if sum(one.name == other.name for other in found) > 1}
    if twice:
        raise errors.UsageError(f"two policies are called {min(twice)!r}; name each once")
    return found


def _read_policy(name: str, table: AlgorithmTable) -> Policy:
    if "/" not in name and not name.endswith(".toml"):
        try:
            return policy.shipped(name, table)
        except policy.PolicyError as error:
            raise errors.UsageError(f"{error}; a file is named by its path, such as ./{name}.toml") from error
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"cannot read the policy {name}: {error}") from error
    try:
        return policy.read(text, name, table)
    except policy.PolicyError as error:
        raise errors.ConfigError(str(error)) from error
