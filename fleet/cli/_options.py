# SPDX-License-Identifier: Apache-2.0
"""Which options do several commands share, and how are their values written?"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fleet import config, errors
from fleet.store import Store, open_store

F = TypeVar("F", bound=Callable[..., Any])

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _DataDirType(click.ParamType[config.DataDir]):
    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> config.DataDir:  # noqa: ANN401
        return value if isinstance(value, config.DataDir) else config.data_dir(value)


class DurationType(click.ParamType[int]):
    """A number and its unit: 90s, 15m, 24h, 7d. The value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Seconds."""
        match = _DURATION.fullmatch(str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is not a duration; write 90s, 15m, 24h or 7d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


def data_option(function: F) -> F:
    """`--data DIR`: the collector's directory, given to the command as `data: fleet.config.DataDir`."""
    return click.option(
        "--data",
        type=_DataDirType(),
        envvar=config.DATA_ENV,
        default=str(config.DATA_DEFAULT),
        show_default=True,
        show_envvar=True,
        help="The collector's data directory.",
    )(function)


def open_data(data: config.DataDir) -> Store:
    """The store of an initialised data directory.

    Raises:
        errors.ConfigError: `fleet serve --init` has not been here.
    """
    data.require()
    return open_store(data.database)


def operator() -> str:
    """Who gives this command, for the audit log."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid:{uid}"
    return f"operator:{name}"


def parse_listen(ctx: click.Context, param: click.Parameter, value: str) -> config.Listen:
    """Click's callback for an address."""
    try:
        return config.parse_listen(value)
    except errors.UsageError as error:
        raise click.BadParameter(str(error), ctx, param) from error
