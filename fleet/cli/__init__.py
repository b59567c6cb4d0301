# SPDX-License-Identifier: Apache-2.0
"""The `fleet` command. One file per subcommand in this folder, holding `command`; its file name is its name.

Nothing else has to be edited to add one: it is found by folder, and imported only when it is asked for. A
command prints its answer on stdout and everything else on stderr. What it raises of `fleet.errors` becomes a
message and an exit code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import sys

import click

from fleet import errors
from reports.text import visible


class Folder(click.Group):
    """A group whose commands are the modules of this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted; a module that begins with an underscore is none."""
        names = (found.name for found in pkgutil.iter_modules(__path__))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and tell errors of ours in one form."""
        try:
            return super().invoke(ctx)
        except errors.FleetError as error:
            # It may name a host, and a host's name is chosen there.
            click.echo(f"fleet: {visible(str(error))}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=Folder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done; 1 failure; 2 usage. Each command's --help has examples.",
)
@click.version_option(importlib.metadata.version("cryptofleet"), prog_name="fleet")
def cli() -> None:
    """Which cryptography is where in a fleet of Linux hosts, is it used, is it allowed, and what changed."""


def main() -> None:
    """Run as the `fleet` and `cryptofleet` commands; an answer that cannot be written is told once."""
    try:
        cli()
    except OSError as error:
        # Writing knows no file's name; opening does, and whoever opens translates his own errors.
        if error.filename is not None:
            raise
        # What is still in the buffer has nowhere to go; Python would try again at exit, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        why = (error.strerror or str(error)).lower()
        click.echo(f"fleet: cannot write the answer: {why}", err=True)
        sys.exit(errors.EXIT_FAILURE)
