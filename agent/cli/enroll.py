# SPDX-License-Identifier: Apache-2.0
"""Make this host known to a collector: once, with a token and the collector's pin.

The host makes its own key and keeps it. The token comes from a file, standard input or $CRYPTOFLEET_TOKEN,
never from the command line, where every user of the host could read it. Enrolling again with the same token
changes nothing.

Examples:
    fleet-agent enroll --url https://fleet.example.org:8443 --pin sha256:... --token-file /root/token
    ssh collector fleet token create | fleet-agent enroll --url https://... --pin sha256:... --token-file -
"""

from __future__ import annotations

import argparse
import io
import os
import sys

from agent import cli, document, errors
from agent.host import Host
from agent.posting import enrolment
from agent.printing import output
from agent.state import StateDirectory


def configure(parser: argparse.ArgumentParser) -> None:
    """Which collector, how it is known, and the token."""
    parser.add_argument("--url", metavar="URL", help="the collector, https://HOST[:PORT]")
    parser.add_argument(
        "--pin", metavar="PIN", help="the collector's CA pin, as `fleet serve --init` prints it"
    )
    parser.add_argument("--ca-file", metavar="PATH", help="the collector's CA in PEM, instead of the pin")
    parser.add_argument("--token-file", metavar="PATH", help="where the token is; - for standard input")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Enrol."""
    flags = {
        "collector.url": args.url,
        "collector.pin": args.pin,
        "collector.ca_file": args.ca_file and os.path.abspath(args.ca_file),
        "collector.token_file": args.token_file,
    }
    settings = cli.load_config(args, flags).settings
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Bytes that are no text are no token either; a complaint about them would quote them.
        sys.stdin.reconfigure(errors="replace")
    token = enrolment.read_token(settings.collector.token_file, os.environ, sys.stdin)
    host = Host()
    with StateDirectory(settings.state_dir) as state:
        enrolled, doubt = enrolment.enrol(
            state,
            settings.collector,
            token,
            hostname=host.hostname(),
            clock_ns=host.now_ns,
            machine_id_sha256=document.machine_id(host),
        )
    if doubt:
        cli.say(doubt)
    output.put(f"enrolled as {enrolled.host_id} with {enrolled.url}\n".encode())
    return errors.EXIT_COMPLETE
