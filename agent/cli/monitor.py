# SPDX-License-Identifier: Apache-2.0
"""Show what happens with cryptography on this host while it happens, one event per line.

Which process opens which key or certificate file and how that ended, which loads which library, and which
begins and ends. Needs root, or CAP_BPF and CAP_PERFMON; with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE it also
tells what is in files that are closed to others. On an enrolled host the files that were seen also go into
the next posted inventory. Ctrl-C ends it, with all that was seen and its account, and exit code 0.

Examples:
    fleet-agent monitor
    fleet-agent monitor --duration 60 --output events.json
    fleet-agent monitor --name nginx --file '*.pem'
    fleet-agent monitor -d 60 | jq -r '[.timestamp, .event_type, .process, .file] | @tsv'
"""

from __future__ import annotations

import argparse

from agent import cli
from agent.cli import _options, _watch
from agent.kernel import monitor


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, what, where to, and how."""
    _options.add_duration(parser)
    _options.add_output(parser, "stream")
    _options.add_filters(parser, "pid", "name", "library", "file")
    _options.add_follow_children(parser)
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "any event was lost, could not be watched for, or is of a file not looked at")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Watch by all probes that there are."""
    return _watch.run(args, monitor.names())
