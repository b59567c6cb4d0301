# SPDX-License-Identifier: Apache-2.0
"""Run the collector."""

from __future__ import annotations

import click

from fleet import config
from fleet.cli._options import DurationType, data_option, parse_listen


@click.command(
    epilog="""\b
Examples:
  fleet serve --init
      make CA, keys and store where there are none, then serve on port 8443
  fleet serve --name fleet.example.org
      the server's certificate speaks for that name, too
  fleet serve --listen 127.0.0.1:8080 --plain-http
      behind a proxy on this machine, which ends TLS

\b
stdout  `ca pin sha256:...`, which agents need to enrol, then, once it
        accepts connections, `listening on https://...`
stderr  the log, one event a line
SIGTERM and SIGINT end it after the last answer.

Exit codes: 0 ended by a signal; 1 failure; 2 usage."""
)
@data_option
@click.option(
    "--init", is_flag=True, help="First make directory, CA, pseudonym key and store, if there are none."
)
@click.option(
    "--listen",
    default=f"0.0.0.0:{config.PORT_DEFAULT}",
    show_default=True,
    metavar="HOST:PORT",
    callback=parse_listen,
    help="Address to listen on; port 0 takes any free one.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="DNS name or address of this collector. Repeatable.",
)
@click.option("--plain-http", is_flag=True, help="Serve without TLS; only on a loopback address.")
@click.option(
    "--next-post",
    "next_post_s",
    type=DurationType(),
    default=f"{config.NEXT_POST_S_DEFAULT // 3600}h",
    show_default=True,
    help="How long agents are told to wait between posts.",
)
def command(
    *,
    data: config.DataDir,
    init: bool,
    listen: config.Listen,
    names: tuple[str, ...],
    plain_http: bool,
    next_post_s: int,
) -> None:
    """Run the collector: take what agents post, over HTTPS, and keep it."""
    from fleet.collector import server

    settings = config.Settings(
        data=data, listen=listen, names=names, plain_http=plain_http, next_post_s=next_post_s
    )
    if init:
        server.initialise(settings)
    # Echo flushes each line: who started the collector waits for it, often at the end of a pipe.
    server.serve(settings, click.echo)
