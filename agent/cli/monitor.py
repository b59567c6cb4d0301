# SPDX-License-Identifier: Apache-2.0
"""Show, for a limited time, which process opens which key or certificate file, and how that ended.

Needs root, or CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH. On an enrolled host what was seen also goes into
the next posted inventory. Ctrl-C ends it early, with all that was seen and its account, and exit code 0.

Examples:
    fleet-agent monitor --duration 30
    fleet-agent monitor --duration 60 | jq -r '[.timestamp, .process, .file, .result] | @tsv'
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec

from agent import cli, errors, formats, memory, observe, output
from agent.collect import today
from agent.host import Host
from agent.kernel.probes.file_open import FileOpen
from agent.redact import People, Printed, Redaction, Truth
from agent.scanners import Scan
from agent.state import StateDirectory

# How the kernel half tells processes and equal events apart; readers join by pid, exe and time.
_INTERNAL = ("fold_key", "start_ns", "cgroup_id", "mount_ns")


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, and how to print."""
    parser.add_argument(
        "-d", "--duration", type=cli.seconds, default=60, metavar="S", help="seconds (default: 60)"
    )
    parser.add_argument("-f", "--format", default="json-stream", help="json-stream (default)")
    parser.add_argument("--no-redact", action="store_true", help="print home directories as they are")
    parser.add_argument("-q", "--quiet", action="store_true", help="only errors on stderr")
    parser.add_argument("--strict", action="store_true", help="exit 6 when any event was lost")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Watch, print, and remember."""
    host = Host()
    state_dir = cli.load_config(args, {}).settings.state_dir
    render: Callable[[Any], bytes] = formats.choose(args.format, "event").event
    redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
    with observe.open_watch(host, args.duration, is_folding=False) as watch:
        previous = {
            number: signal.signal(number, lambda *_: watch.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        if not args.quiet:
            cli.say(f"watching file opens for {args.duration} s")

        def show(event: FileOpen) -> None:
            output.put(render(_printed(event, watch.placement(event).label, redaction)))

        try:
            scan = watch.scan(show)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    if not args.quiet:
        cli.say(_account(scan))
    _remember(state_dir, host, scan)
    return errors.EXIT_PARTIAL if args.strict and scan.status != "complete" else errors.EXIT_COMPLETE


def _printed(event: FileOpen, unit: str, redaction: Redaction) -> dict[str, Any]:
    """The event as readers see it: no internal numbers, people hidden, the unit beside the process."""
    document: dict[str, Any] = msgspec.to_builtins(event)
    for name in _INTERNAL:
        document.pop(name, None)
    for name in ("exe", "file", "file_raw"):
        if isinstance(document.get(name), str):
            document[name] = redaction.path(document[name])
    if document["file"] != event.file:
        # `../alice/x` names whom the path no longer does.
        document.pop("file_raw", None)
    document["unit"] = unit
    return document


def _account(scan: Scan) -> str:
    """One line: what was seen, what was lost, by which method."""
    words = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in sorted(scan.live.items()))
    return "; ".join(word for word in (words, f"method: {scan.rung}", scan.rung_reason) if word)


def _remember(state_dir: str, host: Host, scan: Scan) -> None:
    """Only where this host is part of a fleet: a look by hand leaves nothing behind."""
    if not os.path.isdir(state_dir):
        return
    try:
        with StateDirectory(state_dir) as state, state.locked():
            remembered, complaint = memory.load(state)
            remembered.see(observe.SECTION, observe.SPEC, scan, today(host))
            memory.save(state, remembered)
    except errors.StateError as error:
        # Whoever has the capabilities may watch; what the agent remembers is its own user's business.
        complaint = f"{error}; what was seen is not remembered"
    if complaint:
        cli.say(complaint)
