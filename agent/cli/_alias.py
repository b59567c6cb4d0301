# SPDX-License-Identifier: Apache-2.0
"""How is a command line of crypto-tracer understood? For who has that name in scripts, and a link by it.

Its users' lines are taken as that program took them, which differs from ours in its habits: getopt_long(3)
accepts the beginning of a long option where it is unambiguous, one table of options served all commands, so
that each accepted what means nothing to it, and a stream's file was emptied first. The words are put into
ours, and whatever is dropped is told. All that is known of the old program's command line is here; what
the commands do is the same by either name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agent import errors

NAME = "crypto-tracer"

# Its one table: letter by word, and whether a value follows.
_TABLE = {
    "help": ("h", False),
    "version": ("V", False),
    "verbose": ("v", False),
    "quiet": ("q", False),
    "output": ("o", True),
    "format": ("f", True),
    "duration": ("d", True),
    "pid": ("p", True),
    "name": ("n", True),
    "library": ("l", True),
    "file": ("F", True),
    "no-redact": ("", False),
    "follow-children": ("", False),
}
_COMMANDS = ("monitor", "profile", "snapshot", "libs", "files")
# An empty value of these, from a variable that was not set, was the same as none.
_MAY_BE_EMPTY = {"duration", "name", "library", "file"}


class Understood(NamedTuple):
    """A command line in our words, and what is to be told about it."""

    words: list[str]
    warnings: list[str]


def is_command(words: Sequence[str]) -> bool:
    """Whether the words begin with a command that the old program had too."""
    return bool(words) and words[0] in _COMMANDS


def without_habits(words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """The command `help`, which we have as an option only, in our words; others as they are."""
    if not words or words[0] != "help":
        return list(words)
    # Of what is no command it showed the general help, as an answer.
    return [words[1], "--help"] if len(words) > 1 and words[1] in commands else ["--help"]


def understood(words: Sequence[str], own: Mapping[str, bool]) -> Understood:
    """A line of a command of the old program in our words.

    Args:
        words: the command and what follows it.
        own: our long options for that command, without hyphens, and whether a value follows each.

    Raises:
        UsageError: getopt_long(3) would refuse it.
    """
    import getopt

    command, *rest = words
    letters = {letter: name for name, (letter, _) in _TABLE.items() if letter}
    takes = dict(own) | {name: has_value for name, (_, has_value) in _TABLE.items()}
    short = "".join(letter + (":" if takes[name] else "") for letter, name in letters.items())
    try:
        given, others = getopt.gnu_getopt(
            rest, short, [name + ("=" if has_value else "") for name, has_value in takes.items()]
        )
    except getopt.GetoptError as error:
        raise errors.UsageError(f"{error.msg}; see: {NAME} {command} --help") from error
    ours = [command]
    warnings = []
    has_pid = any(option in ("-p", "--pid") for option, _ in given)
    for option, value in given:
        name = letters[option[1:]] if not option.startswith("--") else option[2:]
        if name not in own:
            warnings.append(f"--{name} means nothing to {command} and is ignored")
        elif not value and name in _MAY_BE_EMPTY:
            warnings.append(f"--{name} is empty and is ignored")
        elif name == "follow-children" and not has_pid and command != "profile":
            warnings.append(f"--{name} means nothing without --pid and is ignored")
        elif command == "profile" and name == "duration" and value.strip("0") == "":
            warnings.append("--duration 0 means the usual time to profile")
        else:
            # A value that begins with a hyphen is still a value.
            ours.append(f"--{name}={value}" if takes[name] else f"--{name}")
    if "overwrite" in own and any(word.startswith("--output=") for word in ours):
        ours.append("--overwrite")
    return Understood([*ours, *others], warnings)
