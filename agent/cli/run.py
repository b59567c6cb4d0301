# SPDX-License-Identifier: Apache-2.0
"""Scan this host and post the inventory, again and again at the collector's pace.

What cannot be posted now is spooled and posted later; the spool holds only the latest state. With --once it
does so a single time and its exit code says how it went.

Examples:
    fleet-agent run --once
    fleet-agent run --once --window 30     also watch file opens for 30 s, by eBPF
    fleet-agent run --window 60            as a service
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping
from types import ModuleType

from agent import (
    backoff,
    cli,
    client,
    collect,
    config,
    discover,
    document,
    enrolment,
    errors,
    identity,
    memory,
    redact,
    sinks,
)
from agent import run as conductor
from agent.host import Host
from agent.sinks import Context, Receipt
from agent.spool import Spool
from agent.state import StateDirectory
from agent.stop import Stop

# Restarts of a whole fleet are spread over a quarter of an hour, whatever its interval.
START_SPLAY_S_MAX = 900


def configure(parser: argparse.ArgumentParser) -> None:
    """How often, what, and where to."""
    parser.add_argument("--once", action="store_true", help="scan and post a single time")
    parser.add_argument(
        "--window", type=cli.seconds, default=0, metavar="S", help="watch file opens for S seconds"
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
    }
    settings = cli.load_config(args, flags)
    chosen = conductor.choose(settings.settings.scanners)
    host = Host()
    with StateDirectory(settings.settings.state_dir) as state:
        context = Context(host=host, collector=settings.settings.collector, state=state)
        if args.once:
            draft = look(host, state, settings, chosen, args.window)
            for receipt in send(draft, settings, context):
                cli.say(_told(receipt))
            is_hidden = cli.say_hidden(draft.sections)
            return errors.EXIT_PARTIAL if args.strict and is_hidden else errors.EXIT_COMPLETE
        return _serve(host, state, settings, chosen, context, args.window)


def look(
    host: Host,
    state: StateDirectory,
    settings: config.Config,
    chosen: Mapping[str, ModuleType],
    window_s: int,
    is_unwanted: Callable[[], bool] = bool,
) -> document.Draft:
    """Scan, remember what was seen in use, and compose the document with people hidden.

    Once `is_unwanted` says yes, which `bool` never does, the window ends early.

    Raises:
        StateError: the memory cannot be kept.
    """
    outcomes = collect.look(host, chosen, window_s, is_unwanted)
    # Read only now: `monitor` may have remembered something while we looked.
    with state.locked():
        remembered, complaint = memory.load(state)
        outcomes = collect.remember(outcomes, remembered, collect.today(host))
        memory.save(state, remembered)
    if complaint:
        cli.say(complaint)
    enrolled = enrolment.load(state)
    people = redact.People.of(host)
    return document.compose(
        host,
        outcomes,
        redact.Printed(people) if enrolled is None else redact.Pseudonyms(people, enrolled.pseudonym_bytes()),
        labels=settings.settings.labels,
        pseudonym_key_id=None if enrolled is None else enrolled.pseudonym_key_id,
    )


def send(draft: document.Draft, settings: config.Config, context: Context) -> list[Receipt]:
    """Give the document to every sink.

    Raises:
        AgentError: the first failure, after every sink had its turn.
        BrokenPipeError: the same, when nothing else failed but standard output, whose reader has gone.
    """
    receipts: list[Receipt] = []
    failures: list[errors.AgentError] = []
    gone: BrokenPipeError | None = None
    for name, own in settings.sinks.items():
        try:
            receipts.append(discover.plugin(sinks, name).send(draft, own, context))
        except errors.AgentError as error:
            failures.append(error)
        except BrokenPipeError as error:
            gone = error
    # What can be tried again decides when the next round is; the others are told.
    failures.sort(key=lambda failure: not isinstance(failure, errors.UnreachableError))
    for later in failures[1:]:
        cli.say(str(later))
    if failures:
        raise failures[0]
    if gone is not None:
        for receipt in receipts:
            cli.say(_told(receipt))
        raise gone
    return receipts


def _serve(
    host: Host,
    state: StateDirectory,
    settings: config.Config,
    chosen: Mapping[str, ModuleType],
    context: Context,
    window_s: int,
) -> int:
    """Rounds until SIGTERM or SIGINT; a failed round is told and tried again with growing, spread delays."""
    stopped = Stop()
    stopped.listen()
    enrolled = enrolment.require(state)
    interval_s = enrolled.next_post_s
    is_known = Spool(state, identity.ensure_key(state)).counts().seq > 0
    failures = 0
    if is_known:
        # A fleet that is restarted in one second keeps its spread; a host that is new is not kept waiting.
        stopped.wait(backoff.start_delay_s(enrolled.host_id, min(interval_s, START_SPLAY_S_MAX)))
    while not stopped.is_set():
        wait_s: float = interval_s
        try:
            draft = look(host, state, settings, chosen, window_s, stopped.is_set)
            if stopped.is_set():
                # What was seen in use is remembered, and the next start looks at the rest again: a host that
                # shuts down does not wait for its collector.
                break
            for receipt in send(draft, settings, context):
                cli.say(_told(receipt))
                interval_s = receipt.next_post_s or interval_s
                # A collector that always asks for a rescan must not keep the host busy.
                wait_s = client.NEXT_POST_S_MIN if receipt.rescan else interval_s
            failures = 0
        except errors.UnreachableError as error:
            failures += 1
            wait_s = backoff.retry_delay_s(failures, random.uniform, error.retry_after_s)
            cli.say(f"{error}; next try in {wait_s:.0f} s")
        except errors.AgentError as error:
            cli.say(str(error))
        stopped.wait(wait_s)
    cli.say("stopped")
    return errors.EXIT_COMPLETE


def _told(receipt: Receipt) -> str:
    words = [f"{receipt.outcome}: {receipt.where}"]
    if receipt.seq is not None:
        words.append(f"post {receipt.seq}")
    if receipt.clock_doubt:
        words.append(receipt.clock_doubt)
    return ", ".join(words)
