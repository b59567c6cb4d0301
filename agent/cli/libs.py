# SPDX-License-Identifier: Apache-2.0
"""Show which process loads which cryptographic library, while it happens.

Libraries are known by what is in them, however they are called, and it is all the same whether a program was
linked with one or opens it later. What is loaded already is in `fleet-agent snapshot`. Needs root, or CAP_BPF
and CAP_PERFMON; with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE also libraries that are closed to others, or in
containers, can be read. Ctrl-C ends it, with all that was seen and its account, and exit code 0.

Examples:
    fleet-agent libs --library libssl
    fleet-agent libs --duration 60 --format summary
    fleet-agent libs -d 60 | jq -r '[.process, .library_name, .library] | @tsv'
"""

from __future__ import annotations

import argparse

from agent.cli import _options, _watch


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, what, where to, and how."""
    _options.add_duration(parser)
    _options.add_output(parser, "stream")
    _options.add_filters(parser, "pid", "name", "library")
    _options.add_follow_children(parser)
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "any event was lost, could not be watched for, or is of a file not looked at")


def run(args: argparse.Namespace) -> int:
    """Watch loads of libraries."""
    return _watch.run(args, ("lib_load",))
