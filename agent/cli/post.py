# SPDX-License-Identifier: Apache-2.0
"""Post what the spool still holds, without looking at the host again.

Examples:
    fleet-agent post
"""

from __future__ import annotations

import argparse

from agent import cli, errors
from agent.host import Host
from agent.sinks import Context, https
from agent.state import StateDirectory


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the spool is."""
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Post it, or say that nothing waits."""
    settings = cli.load_config(args, {}).settings
    with StateDirectory(settings.state_dir) as state:
        receipt = https.resume(Context(host=Host(), collector=settings.collector, state=state))
    if receipt is None:
        cli.say("nothing waits in the spool")
    else:
        cli.say(f"{receipt.outcome}: {receipt.where}, post {receipt.seq}")
    return errors.EXIT_COMPLETE
