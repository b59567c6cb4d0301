# SPDX-License-Identifier: Apache-2.0
"""The `fleet-agent` command: one file per subcommand in this folder.

The contract. A subcommand is a module here; its file name is its name; the first sentence of its docstring is
its help, and all of it is shown under --help, what follows `Examples:` at the end. It has

    def configure(parser: argparse.ArgumentParser) -> None
    def run(args: argparse.Namespace) -> int              the exit code

It prints through `agent.output.put`. Exit codes: 0 complete; 1 failure; 2 usage; 3 missing privilege; 4
kernel; 5 nothing could be attached; 6 done, but coverage is partial (only with --strict); 130 stopped by
Ctrl-C.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress

import agent
from agent import config, discover, errors, output
from agent.model.inventory import SectionState
from agent.state import PATH_DEFAULT

# A window costs every process of the host a little; a day of it is a mistake or another tool's work.
SECONDS_MAX = 86_400

# 128 and the number of SIGINT, as shells report a command that it ended.
EXIT_STOPPED = 130

EPILOG = """exit codes:
  0 complete   1 failure   2 usage   3 missing privilege   4 kernel
  5 nothing could be attached   6 done, but coverage is partial (with --strict)
  130 stopped by Ctrl-C"""


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line, found by folder.

    Args:
        argv: the words to be parsed. Where they name a subcommand, only that one is imported: start-up is
            most of what a short command costs.
    """
    found = discover.names(sys.modules[__name__])
    wanted = argv[0].replace("-", "_") if argv else ""
    parser = argparse.ArgumentParser(
        prog="fleet-agent",
        description="See which cryptography is on this host, and state it with evidence.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"fleet-agent {agent.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in [wanted] if wanted in found else found:
        module = discover.plugin(sys.modules[__name__], name)
        about, _, examples = (inspect.getdoc(module) or "").partition("Examples:\n")
        sub = commands.add_parser(
            name.replace("_", "-"),
            help=discover.help_text(module),
            description=about.strip(),
            epilog=_epilog(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(sub)
        sub.set_defaults(run=module.run)
    return parser


def _epilog(examples: str) -> str:
    shown = textwrap.indent(inspect.cleandoc(examples), "  ")
    return f"examples:\n{shown}\n\n{EPILOG}" if examples else EPILOG


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every error we raise on purpose is one line on stderr and an exit code."""
    if argv is None:
        _take_names_for_utf8()
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
        # The reader has gone (`| head`) and wants to hear no more.
        return errors.EXIT_FAILURE
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
        return build_parser(words).parse_args(words)
    finally:
        # Whatever was printed goes out now, where a failure can still be told.
        output.put(b"")


def say(words: str) -> None:
    """One line for people on stderr. Control characters of names found on the host are shown, not obeyed."""
    # Who has closed stderr wants to hear nothing; the exit code still tells.
    with suppress(OSError):
        print(f"fleet-agent: {output.plain(words)}", file=sys.stderr)


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
