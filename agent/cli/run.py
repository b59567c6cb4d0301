# SPDX-License-Identifier: Apache-2.0
"""Scan this host and post the inventory, again and again at the collector's pace.

What cannot be posted now is spooled and posted later; the spool holds only the latest state. With --once it
does so a single time and its exit code says how it went.

Each round is a process that ends, so that the service costs next to nothing between rounds. SIGHUP reads the
configuration anew; one that is not good is told, and the old one stays. While /etc/cryptofleet/disabled is
there, there are no rounds. systemd (Type=notify) is told when it is ready, how it goes, and that it is alive.

Examples:
    fleet-agent run --once
    fleet-agent run --once --window 30     also watch file opens for 30 s, by eBPF
    fleet-agent run --window 60            as a service
"""

from __future__ import annotations

import argparse
import os

from agent import cli, config, errors


def configure(parser: argparse.ArgumentParser) -> None:
    """How often, what, and where to."""
    parser.add_argument("--once", action="store_true", help="scan and post a single time")
    parser.add_argument(
        "--window", type=cli.seconds, metavar="S", help="watch file opens for S seconds in each round"
    )
    parser.add_argument(
        "--scanner", action="append", metavar="NAME", help="run this scanner only; repeatable"
    )
    parser.add_argument(
        "--sink", action="append", metavar="NAME", help="send there: https, file, stdout; repeatable"
    )
    parser.add_argument("--strict", action="store_true", help="with --once: exit 6 when coverage is partial")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """One round, or rounds until a signal."""
    flags = {
        "scanners": None if args.scanner is None else tuple(args.scanner),
        "sinks": None if args.sink is None else tuple(args.sink),
        "window_s": args.window,
        "state_dir": args.state_dir and os.path.abspath(args.state_dir),
    }
    page = config.read(args.config)
    if args.once:
        return _once(flags, page, is_strict=args.strict)
    if args.strict:
        raise errors.UsageError("--strict is for --once: a service has no exit code to tell by")
    return _serve(flags, args.config, page)


def _once(flags: dict[str, object], page: config.Page, *, is_strict: bool) -> int:
    from agent.guard import sandbox
    from agent.serving import rounds
    from agent.sinks import Context
    from agent.state import StateDirectory

    todo = rounds.plan(flags, page)
    settings = todo.configured.settings
    with sandbox.open_host() as host, StateDirectory(settings.state_dir) as state:
        draft = rounds.look(todo, host, state, cli.say)
        context = Context(host=host, collector=settings.collector, state=state)
        try:
            receipts = rounds.send(draft, todo.configured, context, cli.say)
        except BrokenPipeError:
            # To deliver the whole of it is what was asked for; a reader that has gone has not got it.
            return errors.EXIT_FAILURE
        for receipt in receipts:
            cli.say(rounds.receipt_words(receipt))
    is_hidden = cli.say_hidden(draft.sections)
    return errors.EXIT_PARTIAL if is_strict and is_hidden else errors.EXIT_COMPLETE


def _serve(flags: dict[str, object], path: str | None, page: config.Page) -> int:
    """Nothing of a round is imported here: what is, stays in memory for as long as the service lives."""
    from agent.serving import service, systemd
    from agent.serving.schedule import Report

    def check(page: config.Page) -> Report:
        from agent.serving import rounds

        return rounds.check(flags, page)

    def attempt(page: config.Page) -> Report:
        from agent.serving import rounds

        return rounds.attempt(flags, page, cli.say)

    work = service.Work(page=page, read=lambda: config.read(path), check=check, attempt=attempt, tell=cli.say)
    return service.Service(work, systemd.Notifier()).serve()
