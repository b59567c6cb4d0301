# SPDX-License-Identifier: Apache-2.0
"""The `fleet-agent` command: one file per subcommand in this folder.

The contract. A subcommand is a module here; its file name is its name; the first sentence of its docstring is
its help, and all of it is shown under --help, what follows `Examples:` at the end. It has

    def configure(parser: argparse.ArgumentParser) -> None
    def run(args: argparse.Namespace) -> int              the exit code

It prints through `agent.printing.output`. What several commands share is declared in `_options`. Exit codes:
0 complete, also when the reader of standard output has gone; 1 failure; 2 usage; 3 missing privilege;
4 kernel; 5 nothing could be attached; 6 done, but coverage is partial (only with --strict); 130 stopped by
Ctrl-C.

Called by the name `crypto-tracer` it takes that program's command lines; see `_alias`.
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

import agent
from agent import config, discover, errors
from agent.cli import _alias
from agent.model.inventory import SectionState
from agent.printing import output
from agent.state import PATH_DEFAULT
from agent.words import plain

NAME = "fleet-agent"

# A window of `run` costs every process of the host a little; a day of it is a mistake.
SECONDS_MAX = 86_400

# 128 and the number of SIGINT, as shells report a command that it ended.
EXIT_STOPPED = 130

EPILOG = """exit codes:
  0 complete   1 failure   2 usage   3 missing privilege   4 kernel
  5 nothing could be attached   6 done, but coverage is partial (with --strict)
  130 stopped by Ctrl-C"""


def program() -> str:
    """The name that we were called by, of the two that we answer to."""
    return _alias.NAME if os.path.basename(sys.argv[0]) == _alias.NAME else NAME


def commands() -> list[str]:
    """The subcommands, as they are called."""
    return [name.replace("_", "-") for name in discover.names(sys.modules[__name__])]


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line, found by folder.

    Args:
        argv: the words to be parsed. Where they name a subcommand, only that one is imported: start-up is
            most of what a short command costs.
    """
    found = commands()
    parser = argparse.ArgumentParser(
        prog=program(),
        description="See which cryptography is on this host, and state it with evidence.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_version(parser)
    subs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in argv[:1] if argv and argv[0] in found else found:
        module = discover.plugin(sys.modules[__name__], name.replace("-", "_"))
        # Examples are given for the name that was called.
        about, _, examples = (inspect.getdoc(module) or "").replace(NAME, program()).partition("Examples:\n")
        sub = subs.add_parser(
            name,
            help=discover.help_text(module),
            description=about.strip(),
            epilog=_epilog(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_version(sub)
        module.configure(sub)
        sub.set_defaults(run=module.run, parser=sub)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-V", "--version", action="version", version=f"{program()} {agent.__version__}",
        help="show the version and exit",
    )  # fmt: skip


def _epilog(examples: str) -> str:
    shown = textwrap.indent(inspect.cleandoc(examples), "  ")
    return f"examples:\n{shown}\n\n{EPILOG}" if examples else EPILOG


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every error we raise on purpose is one line on stderr and an exit code."""
    if argv is None:
        _take_names_for_utf8()
    # Some launchers ignore it, and that is inherited: then no child could be asked how it ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    words = sys.argv[1:] if argv is None else argv
    output.open_standard_streams()
    try:
        args = _parse(words)
        code: int = args.run(args)
        return code
    except errors.AgentError as error:
        say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader has gone (`| head`) because it has what it wanted: that is no failure of ours, and with
        # `set -o pipefail` it must not look like one.
        return errors.EXIT_COMPLETE
    except KeyboardInterrupt:
        say("stopped")
        return EXIT_STOPPED


def _take_names_for_utf8() -> None:
    """Begin again in Python's UTF-8 mode (PEP 540) where the locale's encoding is another one.

    Names on a host are bytes, and the same bytes must be the same text in every document, whoever's terminal
    it was asked from. The mode cannot be changed later; the frozen file is always in it.
    """
    is_asked = os.environ.get("PYTHONUTF8") == "1" or sys.flags.ignore_environment
    if sys.getfilesystemencoding() != "utf-8" and not is_asked and sys.executable:
        # The very program that runs, with the very arguments it was given.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line, taken apart; help, version and complaints are printed, and end it by SystemExit."""
    try:
        if program() == _alias.NAME:
            return _parse_alias(_alias.without_habits(words, commands()))
        args, unknown = build_parser(words).parse_known_args(words)
        if unknown:
            _refuse(args, unknown)
        return args
    finally:
        # Whatever was printed goes out now, where a failure can still be told.
        output.put(b"")


def _parse_alias(words: Sequence[str]) -> argparse.Namespace:
    parser = build_parser(words)
    warnings: list[str] = []
    if _alias.is_command(words):
        words, warnings = _alias.understood(words, long_options(parser, words[0]))
    args, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(args, unknown)
    if not getattr(args, "quiet", False):
        for warning in warnings:
            say(warning)
    return args


def long_options(parser: argparse.ArgumentParser, command: str) -> dict[str, bool]:
    """Long options of a command, without hyphens, and whether a value follows each."""
    return {
        option.removeprefix("--"): action.nargs != 0
        for action in subparsers(parser)[command]._actions  # noqa: SLF001 - argparse names them nowhere else
        for option in action.option_strings
        if option.startswith("--")
    }


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The command lines of the subcommands, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            found |= action.choices
    return found


def _refuse(args: argparse.Namespace, unknown: list[str]) -> NoReturn:
    """End with what is wrong, and where it would be right."""
    parser: argparse.ArgumentParser = args.parser
    for word in unknown:
        option = word.partition("=")[0] if word.startswith("--") else word[:2]
        having = [
            name
            for name, sub in subparsers(build_parser()).items()
            if option in sub._option_string_actions  # noqa: SLF001 - as above
        ]
        if word.startswith("-") and having:
            parser.error(f"{option} means nothing to {args.command}; it is an option of: {', '.join(having)}")
    parser.error(f"unrecognized arguments: {' '.join(unknown)}")


def say(words: str) -> None:
    """One line for people on stderr. Control characters of names found on the host are shown, not obeyed."""
    # Who has closed stderr wants to hear nothing; the exit code still tells.
    with suppress(OSError):
        print(f"{program()}: {plain(words)}", file=sys.stderr)


def say_hidden(sections: Mapping[str, SectionState], *, is_quiet: bool = False) -> bool:
    """Name every section that is not whole, and why; whether there is one."""
    hidden = {name: state for name, state in sections.items() if state.status in ("partial", "failed")}
    for name, state in hidden.items():
        if not is_quiet:
            say(f"{name} is {state.status}: {state.reason}")
    return bool(hidden)


def seconds(text: str) -> int:
    """A number of seconds, whole and above 0, for argparse."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to {SECONDS_MAX}")
    return int(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    """The options that name the agent's own directory and its configuration."""
    parser.add_argument(
        "--state-dir", metavar="DIR", help=f"the agent's own directory (default: {PATH_DEFAULT})"
    )
    parser.add_argument(
        "--config", metavar="PATH", help=f"its configuration (default: {config.FILE_DEFAULT})"
    )


def load_config(args: argparse.Namespace, flags: Mapping[str, object]) -> config.Config:
    """The configuration under what the command line says. Raises ConfigError."""
    given = {"state_dir": args.state_dir and os.path.abspath(args.state_dir), **flags}
    return config.load(given, os.environ, args.config)
