# SPDX-License-Identifier: Apache-2.0
"""Show which process opens which key, certificate or keystore, while it happens, and how that ended.

What a file is, is told by its bytes where they can be read, else by its name. Needs root, or CAP_BPF and
CAP_PERFMON; with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE every file can be read. On an enrolled host what was
seen also goes into the next posted inventory. Ctrl-C ends it, with all that was seen and its account, and
exit code 0.

Examples:
    fleet-agent files --file '/etc/ssl/*'
    fleet-agent files --duration 60 --format summary
    fleet-agent files -d 60 | jq -r 'select(.file_type == "private_key") | [.process, .file] | @tsv'
"""

from __future__ import annotations

import argparse

from agent import cli
from agent.cli import _options, _watch


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, what, where to, and how."""
    _options.add_duration(parser)
    _options.add_output(parser, "stream")
    _options.add_filters(parser, "pid", "name", "file")
    _options.add_follow_children(parser)
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "any event was lost, or could not be watched for")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Watch file opens."""
    return _watch.run(args, ("file_open",))
