# SPDX-License-Identifier: Apache-2.0
"""Print what cryptography this host holds and uses now, and how far that could be seen.

The document has the keys that users' scripts know (processes, summary) and beside them the whole inventory
with its coverage. Filters choose the processes that are listed and counted; the inventory stays whole. Works
without root, and then says what it could not see; totals of 0 that mean nothing are exit code 3. Nothing is
kept or sent.

Examples:
    fleet-agent snapshot | jq .summary
    fleet-agent snapshot --output /root/snapshot.json
    fleet-agent snapshot --format summary
    fleet-agent snapshot --name nginx --library libssl | jq .processes
    fleet-agent snapshot --scanner certificates --format inventory | jq .manifest.sections
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from agent import cli, document, errors, formats
from agent import run as conductor
from agent.cli import _options
from agent.document import Outcome
from agent.guard import guest, sandbox, supervise
from agent.host import Host
from agent.model import canonical
from agent.model.inventory import SectionState
from agent.printing import output, tracer
from agent.printing.selection import Selection
from agent.redact import People, Printed, Redaction, Truth
from agent.survey import rights

SNAPSHOT_VERSION = "1.0"


def configure(parser: argparse.ArgumentParser) -> None:
    """What, where to, and how."""
    _options.add_output(parser, "snapshot")
    parser.add_argument(
        "--scanner", action="append", metavar="NAME", help="run this scanner only; repeatable"
    )
    _options.add_filters(
        parser, "pid", "name", "library", "file",
        meaning="A process is listed when all of them match: it, a library that it has mapped, a file that"
        " it holds open.",
    )  # fmt: skip
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "coverage is partial")
    parser.add_argument("--root", default="/", metavar="DIR", help="look at the host below this directory")


def run(args: argparse.Namespace) -> int:
    """Look once and print."""
    render = formats.document(args.format, "snapshot")
    chosen = conductor.choose(args.scanner)
    selection = Selection.of(args)
    if "processes" not in chosen and not selection.is_everything:
        raise errors.UsageError("filters choose processes; add --scanner processes")
    if not os.path.isdir(args.root):
        raise errors.UsageError(f"{args.root} is no directory")
    tell = _say_nothing if args.quiet else cli.say
    # The lock is this host's; a directory may be a disk of another one.
    is_here = args.root == "/"
    with sandbox.open_host(args.root) as host, guest.admit(exclusive=is_here, tell=tell):
        outcomes = supervise.run_scanners(host, chosen)
        redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
        draft = document.compose(host, outcomes, redaction)
        snapshot = _snapshot(draft, outcomes, selection, host, redaction)
    output.deliver(render(snapshot), args.output)
    is_hidden = cli.say_hidden(draft.sections, is_quiet=args.quiet)
    if args.verbose:
        _tell_more(draft.sections)
    if snapshot.get("processes") == []:
        _doubt_nothing(host, draft.sections["processes"], draft.live.get("processes", {}).get("processes", 0))
    return errors.EXIT_PARTIAL if args.strict and is_hidden else errors.EXIT_COMPLETE


def _doubt_nothing(host: Host, state: SectionState, looked_at: int) -> None:
    """That no process uses cryptography is an answer only where they could be looked at.

    Args:
        host: with its privileges.
        state: how the look at the processes went.
        looked_at: how many processes it saw into.

    Raises:
        PrivilegeError, AgentError: they could not, so that the totals of 0 mean nothing.
    """
    denied = state.skipped.get("denied", 0)
    if denied and not state.skipped.get("crashed"):
        # Who has the capability may still be refused a few (status says by what): that is told, and no more
        # can be granted.
        if denied < looked_at and _holds_capability(host):
            return
        raise errors.PrivilegeError(
            f"totals of 0 mean nothing: {state.reason} among the processes; run as root, or grant"
            " CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        )
    # A directory may be a copy of a disk, on which nothing runs.
    if state.status != "complete" and not (state.status == "absent" and host.root != "/"):
        raise errors.AgentError(f"totals of 0 mean nothing: the processes are {state.status}: {state.reason}")


def _holds_capability(host: Host) -> bool:
    try:
        return rights.privileges(host).may("CAP_SYS_PTRACE")
    except errors.HostError:
        return False


def _say_nothing(words: str) -> None:
    """With --quiet."""


def _snapshot(
    draft: document.Draft,
    outcomes: Mapping[str, Outcome],
    selection: Selection,
    host: Host,
    redaction: Redaction,
) -> dict[str, Any]:
    """The printed document. Without the scanner `processes` it has no totals."""
    snapshot: dict[str, Any] = {
        "snapshot_version": SNAPSHOT_VERSION,
        "generated_at": draft.collected_at,
        "hostname": draft.host.hostname,
        "kernel": draft.host.kernel,
    }
    if "processes" in outcomes:
        scan = outcomes["processes"].scan
        found = tracer.selected(scan.processes if scan else [], selection)
        snapshot["processes"] = tracer.processes(found, host, redaction)
        snapshot["summary"] = tracer.summary(snapshot["processes"])
    snapshot["inventory"] = msgspec.Raw(canonical.encode(draft.sealed(canonical.encode(draft.manifest()))))
    return snapshot


def _tell_more(sections: Mapping[str, SectionState]) -> None:
    """Every section with the method that was used, and why no better one."""
    for name, state in sections.items():
        by = f" by {state.rung}" if state.rung else ""
        why = f" ({state.rung_reason})" if state.rung_reason else ""
        cli.say(f"{name}: {state.status}{by}{why}")
