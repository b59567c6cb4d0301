# SPDX-License-Identifier: Apache-2.0
"""Which options do several commands share? Each is declared once: one letter, one word, one meaning.

A command adds those that mean something to it; any other is a usage error that names the commands it is for.
"""

from __future__ import annotations

import argparse
from typing import Literal

from agent import cli, formats

# INT_MAX seconds are 68 years: what the old tool took, its users' scripts may give.
DURATION_S_MAX = 2**31 - 1
# PID_MAX_LIMIT of include/linux/threads.h on 64-bit machines.
PID_MAX = 4 * 1024 * 1024

_FILTERS = {
    "pid": ("-p", "N", "only the process with this number"),
    "name": ("-n", "TEXT", "only processes whose name contains this; case-sensitive"),
    "library": ("-l", "TEXT", "only libraries whose path contains this; case-sensitive"),
    "file": (
        "-F",
        "PATTERN",
        "only files whose whole path is like '*.pem' or '/etc/ssl/*'; * is any characters, also /",
    ),
}


def add_duration(parser: argparse.ArgumentParser, default_s: int = 0) -> None:
    """-d: how long to watch; 0 is until somebody ends it."""
    parser.add_argument(
        "-d", "--duration", type=duration, default=default_s, metavar="S",
        help="seconds; 0 is until Ctrl-C (default: %(default)s)",
    )  # fmt: skip


def add_output(parser: argparse.ArgumentParser, kind: formats.Kind | Literal["stream"]) -> None:
    """-o and -f: where to, and how. A stream is appended to its file; a document replaces it in one step."""
    is_stream = kind == "stream"
    default = "json-stream" if is_stream else "json-pretty"
    # By the old name a stream's file is begun anew, as that program does.
    begins_anew = cli.program() != cli.NAME
    how = "write there in one step"
    if is_stream:
        how = f"{'empty it and write there' if begins_anew else 'append to it'}, anew after SIGHUP"
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=f"{how}; made with mode 0600 (default: stdout)"
    )
    if is_stream:
        parser.add_argument("--overwrite", action="store_true", help="empty FILE first, instead of appending")
    parser.add_argument(
        "-f", "--format", default=default, choices=formats.names(kind), metavar="FORMAT",
        help=f"one of: %(choices)s (default: {default})",
    )  # fmt: skip


def add_filters(
    parser: argparse.ArgumentParser,
    *names: Literal["pid", "name", "library", "file"],
    meaning: str = "An event is shown when all of them match it.",
) -> None:
    """Filters by these names; see `agent.printing.selection`. `meaning` is what they select, for people."""
    group = parser.add_argument_group("filters", meaning)
    for name in names:
        letter, metavar, words = _FILTERS[name]
        kind = pid if name == "pid" else words_of
        group.add_argument(letter, f"--{name}", type=kind, metavar=metavar, help=words)


def add_follow_children(parser: argparse.ArgumentParser) -> None:
    """--follow-children: the descendants of the process that was chosen too."""
    parser.add_argument(
        "--follow-children", action="store_true",
        help="also its descendants: those that it has, and those that come meanwhile",
    )  # fmt: skip


def add_redaction(parser: argparse.ArgumentParser) -> None:
    """--no-redact: people's names as they are."""
    parser.add_argument(
        "--no-redact", action="store_true", help="print home directories and users as they are"
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """-v and -q: how much is said on stderr. Both at once mean nothing."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    either.add_argument("-q", "--quiet", action="store_true", help="only errors on stderr")


def add_strict(parser: argparse.ArgumentParser, what: str) -> None:
    """--strict: less than everything is a failure."""
    parser.add_argument("--strict", action="store_true", help=f"exit 6 when {what}")


def duration(text: str) -> int:
    """A number of seconds, 0 for no end, for argparse."""
    return _number(text, 0, DURATION_S_MAX, "a whole number of seconds")


def pid(text: str) -> int:
    """A process's number, for argparse."""
    return _number(text, 1, PID_MAX, "a process's number")


def words_of(text: str) -> str:
    """What a filter looks for, for argparse: an empty one is a variable that was not set."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; leave the option out to show all")
    return text


def _number(text: str, least: int, most: int, what: str) -> int:
    # A text longer than the largest number is larger, and Python refuses to read very long ones.
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not {what} from {least} to {most}")
    if not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most}")
    return int(text)
