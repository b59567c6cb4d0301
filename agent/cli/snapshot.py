# SPDX-License-Identifier: Apache-2.0
"""Print what cryptography this host holds and uses now, and how far that could be seen.

The document has the keys that users' scripts know (processes, summary) and beside them the whole inventory
with its coverage. Works without root, and then says what it could not see. Nothing is kept or sent.

Examples:
    fleet-agent snapshot | jq .summary
    fleet-agent snapshot --output /root/snapshot.json
    fleet-agent snapshot --format summary
    fleet-agent snapshot --scanner certificates | jq '.inventory.manifest.sections'
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import msgspec

from agent import cli, document, errors, formats, tracer
from agent import run as conductor
from agent.host import Host
from agent.model import canonical
from agent.output import write_whole
from agent.redact import People, Printed, Redaction, Truth
from agent.scanners import Scan, processes

SNAPSHOT_VERSION = "1.0"


def configure(parser: argparse.ArgumentParser) -> None:
    """What, where to, and how."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write there in one step, 0600 (default: stdout)"
    )
    parser.add_argument(
        "-f", "--format", default="json-pretty", help="json-pretty (default), json-stream, summary"
    )
    parser.add_argument(
        "--scanner", action="append", metavar="NAME", help="run this scanner only; repeatable"
    )
    parser.add_argument(
        "--no-redact", action="store_true", help="print home directories and users as they are"
    )
    parser.add_argument("--strict", action="store_true", help="exit 6 when coverage is partial")
    parser.add_argument("-q", "--quiet", action="store_true", help="only errors on stderr")
    parser.add_argument("--root", default="/", metavar="DIR", help="look at the host below this directory")


def run(args: argparse.Namespace) -> int:
    """Look once and print."""
    render = formats.choose(args.format, "document").document
    chosen = conductor.choose(args.scanner)
    if not os.path.isdir(args.root):
        raise errors.UsageError(f"{args.root} is no directory")
    host = Host(args.root)
    redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
    snapshot, draft = _look(host, chosen, redaction)
    data = render(snapshot)
    if args.output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_whole(args.output, data)
    hidden = {name: state for name, state in draft.sections.items() if state.status in ("partial", "failed")}
    if not args.quiet:
        for name, state in hidden.items():
            cli.say(f"{name} is {state.status}: {state.reason}")
    denied = draft.sections.get("processes")
    if snapshot["processes"] == [] and denied is not None and denied.skipped.get("denied"):
        raise errors.PrivilegeError(
            "no process could be looked at; run as root, or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        )
    return errors.EXIT_PARTIAL if args.strict and hidden else errors.EXIT_COMPLETE


def _look(host: Host, chosen: dict[str, Any], redaction: Redaction) -> tuple[dict[str, Any], document.Draft]:
    """The printed document, and the draft in it."""
    seen: list[processes.Seen] = []
    others = {name: module for name, module in chosen.items() if module is not processes}
    outcomes = conductor.run_scanners(host, others)
    if len(others) != len(chosen):
        # Looked at once for both: what is listed and what is kept are of one moment.
        outcomes["processes"] = conductor.run_one(processes.SPEC, lambda: _survey(host, seen))
    draft = document.compose(host, outcomes, redaction)
    listed = tracer.processes(host, seen, redaction)
    inventory = canonical.encode(draft.sealed(canonical.encode(draft.manifest())))
    return {
        "snapshot_version": SNAPSHOT_VERSION,
        "generated_at": draft.collected_at,
        "hostname": draft.host.hostname,
        "kernel": draft.host.kernel,
        "processes": listed,
        "summary": tracer.summary(listed),
        "inventory": msgspec.Raw(inventory),
    }, draft


def _survey(host: Host, seen: list[processes.Seen]) -> Scan:
    scan, found = processes.survey(host)
    seen += found
    return scan
