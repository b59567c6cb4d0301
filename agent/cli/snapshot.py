# SPDX-License-Identifier: Apache-2.0
"""Print what cryptography this host holds and uses now, and how far that could be seen.

The document has the keys that users' scripts know (processes, summary) and beside them the whole inventory
with its coverage. Works without root, and then says what it could not see; totals of 0 that mean nothing are
exit code 3. Nothing is kept or sent.

Examples:
    fleet-agent snapshot | jq .summary
    fleet-agent snapshot --output /root/snapshot.json
    fleet-agent snapshot --format summary
    fleet-agent snapshot --scanner certificates | jq '.inventory.manifest.sections'
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import msgspec

from agent import cli, document, errors, formats, output, tracer
from agent import run as conductor
from agent.cli import _options
from agent.host import Host
from agent.model import canonical
from agent.model.inventory import SectionState
from agent.redact import People, Printed, Redaction, Truth
from agent.scanners import Scan, processes

SNAPSHOT_VERSION = "1.0"


def configure(parser: argparse.ArgumentParser) -> None:
    """What, where to, and how."""
    _options.add_output(parser, "snapshot")
    parser.add_argument(
        "--scanner", action="append", metavar="NAME", help="run this scanner only; repeatable"
    )
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "coverage is partial")
    parser.add_argument("--root", default="/", metavar="DIR", help="look at the host below this directory")


def run(args: argparse.Namespace) -> int:
    """Look once and print."""
    render = formats.document(args.format, "snapshot")
    chosen = conductor.choose(args.scanner)
    if not os.path.isdir(args.root):
        raise errors.UsageError(f"{args.root} is no directory")
    host = Host(args.root)
    redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
    snapshot, draft = _look(host, chosen, redaction)
    output.deliver(render(snapshot), args.output)
    is_hidden = cli.say_hidden(draft.sections, is_quiet=args.quiet)
    if snapshot.get("processes") == []:
        _doubt_nothing(host, draft.sections["processes"])
    return errors.EXIT_PARTIAL if args.strict and is_hidden else errors.EXIT_COMPLETE


def _doubt_nothing(host: Host, state: SectionState) -> None:
    """That no process uses cryptography is an answer only where they could be looked at.

    Raises:
        PrivilegeError, AgentError: they could not, so that the totals of 0 mean nothing.
    """
    if state.skipped.get("denied"):
        raise errors.PrivilegeError(
            f"totals of 0 mean nothing: {state.reason} among the processes; run as root, or grant"
            " CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        )
    # A directory may be a copy of a disk, on which nothing runs.
    if state.status != "complete" and not (state.status == "absent" and host.root != "/"):
        raise errors.AgentError(f"totals of 0 mean nothing: the processes are {state.status}: {state.reason}")


def _look(host: Host, chosen: dict[str, Any], redaction: Redaction) -> tuple[dict[str, Any], document.Draft]:
    """The printed document, and the draft in it. Without the scanner `processes` it has no totals."""
    seen: list[processes.Seen] = []
    outcomes = conductor.run_scanners(host, {name: chosen[name] for name in chosen if name != "processes"})
    if "processes" in chosen:
        # Looked at once for both: what is listed and what is kept are of one moment.
        outcomes["processes"] = conductor.run_one(processes.SPEC, lambda: _survey(host, seen))
    draft = document.compose(host, outcomes, redaction)
    snapshot: dict[str, Any] = {
        "snapshot_version": SNAPSHOT_VERSION,
        "generated_at": draft.collected_at,
        "hostname": draft.host.hostname,
        "kernel": draft.host.kernel,
    }
    if "processes" in chosen:
        snapshot["processes"] = tracer.processes(host, seen, redaction)
        snapshot["summary"] = tracer.summary(snapshot["processes"])
    snapshot["inventory"] = msgspec.Raw(canonical.encode(draft.sealed(canonical.encode(draft.manifest()))))
    return snapshot, draft


def _survey(host: Host, seen: list[processes.Seen]) -> Scan:
    scan, found = processes.survey(host)
    seen += found
    return scan
