# SPDX-License-Identifier: Apache-2.0
"""What every command keeps to, those too that are not written yet; each is run as a process of its own."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from agent import cli, discover, errors
from tests.agent.cli.commands import run, said

COMMANDS = discover.plugins(cli)
NAMES = [name.replace("_", "-") for name in COMMANDS]
# An option's own word that says its value would be a secret; a file of it, or a name, is none.
SECRETS = re.compile(r"token|passw|secret|credential|api-?key|private")


@pytest.fixture(params=COMMANDS.values(), ids=NAMES)
def command(request: pytest.FixtureRequest) -> ModuleType:
    """Each command in turn."""
    found: ModuleType = request.param
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a command line and of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from options(sub)
        else:
            yield action


def test_the_commands_are_found_by_folder() -> None:
    """A contract checked on nothing would be green."""
    known = {"enroll", "files", "libs", "monitor", "post", "run", "selftest", "snapshot", "version"}
    assert known <= COMMANDS.keys()


def test_it_has_the_shape_of_a_command(command: ModuleType) -> None:
    """The entry point calls them all alike."""
    assert list(inspect.signature(command.configure).parameters) == ["parser"]
    assert list(inspect.signature(command.run).parameters) == ["args"]
    assert discover.help_text(command).endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_its_help_has_examples_that_it_takes_itself_and_the_exit_codes(name: str) -> None:
    """Whoever asks for help wants to copy a line that works."""
    done = run(name, "--help")

    assert (done.returncode, said(done)) == (0, [])
    _, found, after = done.stdout.decode().partition("\nexamples:\n")
    examples, found_too, codes = after.partition("\nexit codes:\n")
    assert found
    assert found_too
    assert f"fleet-agent {name}" in examples
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert re.search(rf"(^|\s){code} \w", codes)
    # Each example is one that the command line understands: up to a pipe or an explanation.
    for line in examples.splitlines():
        for part in line.split("|"):
            words = re.split(r" {2,}", part.strip())[0].replace("'", "").split()
            if words[:1] == ["fleet-agent"]:
                assert callable(cli.build_parser(words[1:]).parse_args(words[1:]).run)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_a_usage_error(name: str) -> None:
    """And an abbreviated one is unknown: it would mean something else with the next release."""
    for option in ("--nonsense", "--hel"):
        done = run(name, option)
        assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
        assert option in said(done)[-1]


@pytest.mark.parametrize("words", [(), ("nonsense",), ("--nonsense",), ("__init__",)])
def test_what_is_no_command_is_a_usage_error(words: tuple[str, ...]) -> None:
    """The answer names those that there are, or what is missing."""
    done = run(*words)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert "COMMAND" in said(done)[-1]


def test_help_names_every_command() -> None:
    """Without importing them for nothing: only then all are."""
    done = run("--help")

    listed = re.findall(r"^    ([a-z-]+) ", done.stdout.decode(), re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)


def test_no_option_takes_a_secret() -> None:
    """Every user of a host can read every command line of it."""
    taking = [
        option
        for action in options(cli.build_parser())
        for option in action.option_strings
        if action.nargs != 0 and SECRETS.search(option) and not option.endswith("-file")
    ]

    assert taking == []


PRINTING = [("version",), ("--version",), ("selftest",), ("selftest", "--format", "json"), ("run", "--help")]


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_said(words: tuple[str, ...], unbuffered: str) -> None:
    """A document cut short must not look like success."""
    with open("/dev/full", "wb") as full:
        done = run(*words, stdout=full, env={"PYTHONUNBUFFERED": unbuffered})

    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == ["fleet-agent: cannot write to standard output: no space left on device"]


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_ends_it_quietly(words: tuple[str, ...]) -> None:
    """`| head` has what it wanted: that is no error, also under `set -o pipefail`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words, stdout=writing)
    finally:
        os.close(writing)

    assert (done.returncode, said(done)) == (errors.EXIT_COMPLETE, [])


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_closed_streams_are_told_apart_from_files(words: tuple[str, ...]) -> None:
    """A number that is free would be the next file's, and what is printed would go into it."""
    # Given a command that may write to none of the three
    without = ("sh", "-c", 'exec "$@" <&- >&- 2>/dev/null', "sh")
    # When standard output is closed, it fails; when only the others are, it answers as ever
    assert run(*words, prefix=without).returncode == errors.EXIT_FAILURE
    without = ("sh", "-c", 'exec "$@" <&- 2>&-', "sh")
    done = run(*words, prefix=without)
    assert (done.returncode, done.stdout) == (0, run(*words).stdout)


def test_errors_are_told_where_standard_error_is_closed_too() -> None:
    """By the exit code, and not in the document's place."""
    without = ("sh", "-c", 'exec "$@" 2>&-', "sh")

    done = run("snapshot", "--format", "nonsense", prefix=without)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")


def test_control_characters_in_what_is_said_are_shown_not_obeyed() -> None:
    """Names come from whoever may make a file; a terminal would do what they say."""
    done = run("snapshot", "--root", "/nonexistent/\x1b[31m\n\x07")

    assert done.returncode == errors.EXIT_USAGE
    assert said(done) == [r"fleet-agent: /nonexistent/\u001b[31m\u000a\u0007 is no directory"]


def test_every_exit_code_of_an_error_is_a_documented_one() -> None:
    """The tree of errors and the help are written by different hands."""

    def leaves(kind: type[errors.AgentError]) -> Iterator[type[errors.AgentError]]:
        yield kind
        for sub in kind.__subclasses__():
            yield from leaves(sub)

    documented = {int(code) for code in re.findall(r"(?:^|\s)(\d+) [a-z]", cli.EPILOG)}
    assert {kind.exit_code for kind in leaves(errors.AgentError)} <= documented
    assert cli.EXIT_STOPPED in documented
