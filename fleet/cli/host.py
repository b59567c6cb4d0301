# SPDX-License-Identifier: Apache-2.0
"""Decide about one host: `fleet host revoke`."""

from __future__ import annotations

import time

import click

from fleet import config, query
from fleet.cli._options import data_option, open_data, operator


@click.group()
def command() -> None:
    """Decide about one host."""


@command.command(
    epilog="""\b
Examples:
  fleet host revoke web7
  fleet host revoke h-3f2a90

Exit codes: 0 done; 1 no such host, or several, or failure; 2 usage."""
)
@data_option
@click.argument("name")
def revoke(*, data: config.DataDir, name: str) -> None:
    """Take nothing more from the host NAME: its name, its id, or the beginning of its id.

    Its key is worth nothing from now on, also with a new token; what it said so far stays. To take the
    machine in again, let it make a new key.
    """
    store = open_data(data)
    try:
        host_id = query.view(store, name).host_id
        store.revoke_host(host_id, actor=operator(), now_ns=time.time_ns()).result()
    finally:
        store.close()
    click.echo(host_id)
