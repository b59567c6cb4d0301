# SPDX-License-Identifier: Apache-2.0
"""Which manual pages and completions go with the one file? They are written from its command line.

    python agent/packaging/manuals.py DIRECTORY

writes `man/*.1` and `completion/*` below the directory, the same bytes each time. It is run where the agent
is built and never on a host: two of the libraries that it imports are a developer's.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

import agent
from agent import cli, config, discover, scanners, sinks, state
from agent.guard import guest, lock
from agent.posting import enrolment

PROGRAM = cli.NAME
ALIAS = "crypto-tracer"
ABOUT = "see which cryptography is on this host"
MANUAL = "Cryptofleet"

FILES = {
    config.FILE_DEFAULT: "The configuration. It need not be there.",
    guest.KILL_SWITCH: "The kill switch: while it is there, nothing is done; its first line says why.",
    state.PATH_DEFAULT: "Key, enrolment, spool and memory; the agent's own user's alone.",
    lock.ROOT_DIRECTORY: "The lock that keeps two scans apart.",
}
ENVIRONMENT = {
    config.FILE_ENV: "The configuration file.",
    config.STATE_ENV: "The agent's own directory.",
    "CRYPTOFLEET_AGENT_NAME": "Any setting: collector.url is CRYPTOFLEET_AGENT_COLLECTOR_URL.",
    enrolment.TOKEN_ENV: "The enrolment token, for enroll.",
    lock.DIRECTORY_ENV: "Another directory for that lock.",
    "TMPDIR": "Where the one file unpacks itself while it runs; a place that is not mounted noexec.",
}
# What an option's value is, by its name in help.
_PATHS = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY}


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by name."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    raise SystemExit("manuals: the command line has no commands")


# -- manual pages --------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Every page by its file name. crypto-tracer is a link, and so is its page."""
    parser = cli.build_parser()
    found = {f"{PROGRAM}.1": _overview(parser), f"{ALIAS}.1": f".so man1/{PROGRAM}.1\n"}
    for name, command in commands(parser).items():
        found[f"{PROGRAM}-{name}.1"] = _page(name, command)
    return found


def _overview(parser: argparse.ArgumentParser) -> str:
    own = commands(parser)
    shorter = argparse.ArgumentParser(prog=PROGRAM, description=parser.description, allow_abbrev=False)
    _copy_options(parser, shorter)
    page = _manpage(shorter, PROGRAM, ABOUT)
    page.synopsis = [PROGRAM, r"\\fICOMMAND\\fR [\\fIOPTION\\fR ...]".replace("\\\\", "\\")]
    _add(page, "commands", _terms({_reference(f"{PROGRAM}-{name}"): _summary(name) for name in own}))
    _add(page, "exit status", _terms(_exit_codes()))
    _add(page, "files", _terms({_italic(path): _escaped(words) for path, words in FILES.items()}))
    _add(page, "environment", _terms({_bold(name): _escaped(words) for name, words in ENVIRONMENT.items()}))
    _add(page, "see also", ", ".join(_reference(f"{PROGRAM}-{name}") for name in own))
    return _sound(str(page))


def _page(name: str, command: argparse.ArgumentParser) -> str:
    """One command's page."""
    title = f"{PROGRAM}-{name}"
    examples, _, _ = (command.epilog or "").partition("exit codes:")
    about, _, rest = (command.description or "").partition("\n\n")
    command.description, command.epilog = rest.strip() or about, None
    usage = command.format_usage().partition(":")[2].split()
    page = _manpage(command, title, about.rstrip("."))
    page.synopsis = [f"{PROGRAM} {name}", _escaped(" ".join(usage[2:]))]
    shown = _escaped(re.sub(r"^  ", "", examples.partition(":")[2].strip("\n"), flags=re.MULTILINE))
    _add(page, "examples", f".nf\n{shown.strip()}\n.fi")
    _add(page, "exit status", _terms(_exit_codes()))
    _add(page, "see also", _reference(PROGRAM))
    return _sound(str(page))


def _manpage(parser: argparse.ArgumentParser, title: str, about: str) -> Manpage:
    # A date would be the build's; the version says which program it is about.
    data = {"date": " ", "project_name": PROGRAM, "version": agent.__version__, "manual_title": MANUAL}
    page = Manpage(parser, data)
    page.prog, page.date, page.description = title, "", about
    return page


def _copy_options(source: argparse.ArgumentParser, target: argparse.ArgumentParser) -> None:
    """Options, but not the commands: each of those has a page of its own."""
    for action in source._actions:  # noqa: SLF001
        if action.option_strings and "--help" not in action.option_strings:
            target._add_action(action)  # noqa: SLF001


def _add(page: Manpage, heading: str, content: str) -> None:
    page.add_section(heading, ">", content)


def _exit_codes() -> dict[str, str]:
    """By number, as the help has them in columns."""
    return {
        _bold(code): _escaped(f"{words[0].upper()}{words[1:]}.")
        for code, words in re.findall(r"(\d+) (\S.*?)(?=\s{2,}\d|\n|$)", cli.EPILOG)
    }


def _summary(name: str) -> str:
    return _escaped(discover.help_text(discover.plugin(cli, name.replace("-", "_"))))


def _terms(words_by_term: dict[str, str]) -> str:
    return "\n".join(f".TP\n{term}\n{words}" for term, words in words_by_term.items())


def _reference(page: str) -> str:
    return rf"\fB{_escaped(page)}\fR(1)"


def _bold(words: str) -> str:
    return rf"\fB{_escaped(words)}\fR"


def _italic(words: str) -> str:
    return rf"\fI{_escaped(words)}\fR"


def _escaped(words: str) -> str:
    return words.replace("\\", r"\e").replace("-", r"\-")


def _sound(page: str) -> str:
    """The page with what only looks like a request made text, and no line at its end blank."""
    lines = page.rstrip("\n").split("\n")
    return "\n".join(_line(line) for line in lines) + "\n"


def _line(line: str) -> str:
    # A request is a dot and letters; `.pem` in a text is none that we use.
    is_request = re.match(r"\.(TH|SH|SS|TP|B|nf|fi|RS|RE|so)\b", line)
    return rf"\&{line}" if line.startswith((".", "'")) and not is_request else line.rstrip()


# -- completion ----------------------------------------------------------------------------------------------


def completions() -> dict[str, str]:
    """Scripts by the file names under which shells look for them, each below its shell's folder."""
    return {
        f"bash/{PROGRAM}": _completion("bash"),
        f"zsh/_{PROGRAM}": _completion("zsh"),
        f"fish/{PROGRAM}.fish": _completion("fish"),
    }


def _completion(shell: str) -> str:
    parser = cli.build_parser()
    for action in _actions(parser):
        if action.metavar in _PATHS:
            action.complete = _PATHS[action.metavar]  # type: ignore[attr-defined]
        elif action.dest in _NAMES:
            action.choices = discover.names(_NAMES[action.dest])
    return shtab.complete(parser, shell=shell)


_NAMES = {"scanner": scanners, "sink": sinks}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for command in commands(parser).values():
        yield from command._actions  # noqa: SLF001


def main(directory: Path) -> None:
    """Write them all."""
    for folder, found in (("man", pages()), ("completion", completions())):
        for name, words in found.items():
            path = directory / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(words, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
