# SPDX-License-Identifier: Apache-2.0
"""Make, list and revoke enrolment tokens."""

from __future__ import annotations

import json
import sys
import time

import click
from tabulate import tabulate

from agent.model import canonical
from fleet import authority, config, enroll, errors
from fleet.cli._options import DurationType, data_option, open_data, operator
from fleet.store.records import NewToken, Token


@click.group()
def command() -> None:
    """Enrolment tokens: with one, a host becomes one of ours."""


@command.command(
    epilog="""\b
Examples:
  fleet token create                              one host, within 24 hours
  fleet token create --uses 200 --ttl 7d --group web
  fleet token create | ssh web7 fleet-agent enroll --url https://fleet:8443 --pin sha256:... --token-file -

The token is printed on stdout, once; only its hash is kept. Exit codes: 0 done; 1 failure; 2 usage."""
)
@data_option
@click.option(
    "--uses",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="How many hosts it enrols.",
)
@click.option(
    "--ttl", "ttl_s", type=DurationType(), default="24h", show_default=True, help="How long it is valid."
)
@click.option("--group", metavar="NAME", help="Group of the hosts it enrols.")
def create(*, data: config.DataDir, uses: int, ttl_s: int, group: str | None) -> None:
    """Print a new token."""
    token, kept = create_token(data, uses=uses, ttl_s=ttl_s, group=group)
    click.echo(token)
    if sys.stderr.isatty():
        pin = authority.load_authority(data.ca).pin
        click.echo(
            f"token {kept.token_id}: {uses} use(s) until {kept.expires_at}; agents also need --pin {pin}",
            err=True,
        )


@command.command("list", epilog="Exit codes: 0 done; 1 failure; 2 usage.")
@data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def list_(*, data: config.DataDir, as_json: bool) -> None:
    """List tokens; the tokens themselves are not known here."""
    store = open_data(data)
    try:
        found = store.tokens()
    finally:
        store.close()
    rows = [
        {
            "id": token.token_id,
            "state": _state(token),
            "uses": f"{token.uses}/{token.uses_max}",
            "group": token.group,
            "created": token.created_at,
            "by": token.created_by,
            "expires": token.expires_at,
            "last_used": token.last_used_at,
        }
        for token in found
    ]
    click.echo(
        json.dumps(rows, indent=2)
        if as_json
        else tabulate(rows, headers="keys", tablefmt="plain", missingval="-")
    )


@command.command(epilog="Exit codes: 0 done; 1 no such token, or failure; 2 usage.")
@data_option
@click.argument("token_id", type=click.IntRange(1, 2**63 - 1))
def revoke(*, data: config.DataDir, token_id: int) -> None:
    """Let nobody enrol with the token TOKEN_ID any more. Hosts it has enrolled stay."""
    store = open_data(data)
    try:
        if not store.revoke_token(token_id, actor=operator(), now_ns=time.time_ns()).result():
            raise errors.NotFoundError(f"there is no token {token_id}; `fleet token list` shows them")
    finally:
        store.close()


def create_token(
    data: config.DataDir, *, uses: int = 1, ttl_s: int = 24 * 3600, group: str | None = None
) -> tuple[str, Token]:
    """Make a token in that data directory: the token itself, and what is kept of it.

    Raises:
        errors.ConfigError: the directory was not initialised.
        errors.UsageError: it would end after the year 9999.
        errors.StoreError: it cannot be written.
    """
    token, now_ns = enroll.new_token(), time.time_ns()
    try:
        expires_at = canonical.timestamp(now_ns + ttl_s * 1_000_000_000)
    except OverflowError as error:
        raise errors.UsageError("that is beyond the calendar; give a shorter --ttl") from error
    store = open_data(data)
    try:
        new = NewToken(
            sha256=enroll.token_digest(token),
            uses_max=uses,
            expires_at=expires_at,
            group=group,
        )
        return token, store.add_token(new, actor=operator(), now_ns=now_ns).result()
    finally:
        store.close()


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at <= canonical.timestamp(time.time_ns()):
        return "expired"
    return "used up" if token.uses >= token.uses_max else "valid"
