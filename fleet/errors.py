# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on the collector's side, and whose fault is it?

FleetError                      everything we raise on purpose; `exit_code` is the command's
|-- UsageError           (2)    the operator asked for something that means nothing
|-- ConfigError          (1)    the data directory or a setting is wrong; the operator's
|-- NotFoundError        (1)    what the operator named is not there
|-- StoreError           (1)    the database says something it cannot say: damage, or a bug of ours
|   `-- StoreUnavailableError   the database cannot be written now (full, locked, read-only): try later
`-- RefusedError                a request that gets a problem document; the sender's
"""

from __future__ import annotations

from typing import Any

from agent.model import wire

EXIT_FAILURE = 1
EXIT_USAGE = 2


class FleetError(Exception):
    """The root of the tree above."""

    exit_code = EXIT_FAILURE


class UsageError(FleetError):
    """The operator asked for something that means nothing."""

    exit_code = EXIT_USAGE


class ConfigError(FleetError):
    """The data directory or a setting is wrong."""


class NotFoundError(FleetError):
    """What the operator named is not there."""


class StoreError(FleetError):
    """The database says something it cannot say."""


class StoreUnavailableError(StoreError):
    """The database cannot be written now; nothing of the refused work was kept."""


class RefusedError(FleetError):
    """A request that is answered with a problem document (RFC 9457).

    Args:
        name: a key of `wire.PROBLEMS`, which gives status and title.
        detail: what happened, to what, and what to do; the sender reads it, so it holds nothing of ours.
        more: the optional members of `wire.Problem`.
    """

    def __init__(self, name: str, detail: str, **more: Any) -> None:  # noqa: ANN401 - as wire.problem takes them
        super().__init__(detail)
        self.name = name
        self.problem = wire.problem(name, detail, **more)
