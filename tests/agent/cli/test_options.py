# SPDX-License-Identifier: Apache-2.0
"""Which command takes which of the shared options, and what it says of one that means nothing to it."""

from __future__ import annotations

import argparse
import itertools

import pytest

from agent import cli, errors
from agent.cli import _options
from tests.agent.cli.commands import run, said

# Every shared option, with its short form and a value where it takes one.
OPTIONS = {
    "--duration": ("-d", "5"),
    "--output": ("-o", "/tmp/x"),
    "--format": ("-f", "json-stream"),
    "--pid": ("-p", "1"),
    "--name": ("-n", "nginx"),
    "--library": ("-l", "libssl"),
    "--file": ("-F", "*.pem"),
    "--no-redact": (None, None),
    "--follow-children": (None, None),
    "--overwrite": (None, None),
    "--strict": (None, None),
    "--verbose": ("-v", None),
    "--quiet": ("-q", None),
    "--version": ("-V", None),
    "--help": ("-h", None),
    "--scanner": (None, "host"),
    "--root": (None, "/"),
    "--state-dir": (None, "/x"),
    "--config": (None, "/dev/null"),
}
STREAM = {
    "--duration", "--output", "--overwrite", "--format", "--pid", "--name", "--no-redact",
    "--follow-children", "--strict", "--verbose", "--quiet", "--version", "--help",
}  # fmt: skip
TAKEN = {
    "monitor": STREAM | {"--library", "--file", "--state-dir", "--config"},
    "files": STREAM | {"--file", "--state-dir", "--config"},
    "libs": STREAM | {"--library"},
    "profile": STREAM - {"--overwrite"},
    "snapshot": {
        "--output", "--format", "--pid", "--name", "--library", "--file", "--no-redact", "--strict",
        "--verbose", "--quiet", "--version", "--help", "--scanner", "--root",
    },
    "version": {"--version", "--help"},
    "post": {"--version", "--help", "--state-dir", "--config"},
}  # fmt: skip


def forms(option: str) -> list[list[str]]:
    """All ways to write an option."""
    short, value = OPTIONS[option]
    if value is None:
        return [[option], *([[short]] if short else [])]
    longs = [[option, value], [f"{option}={value}"]]
    return longs + ([[short, value], [f"{short}{value}"]] if short else [])


@pytest.mark.parametrize(("command", "option"), list(itertools.product(TAKEN, OPTIONS)))
def test_an_option_is_taken_where_it_means_something_and_refused_elsewhere(
    command: str, option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In every form; the refusal says to which commands it means something."""
    for words in forms(option):
        if option in TAKEN[command] and option not in ("--version", "--help"):
            cli._parse([command, *words])
            continue
        with pytest.raises(SystemExit) as ended:
            cli._parse([command, *words])
        out, err = capfd.readouterr()
        if option in TAKEN[command]:
            assert (ended.value.code, err) == (0, "")
            assert out
            continue
        assert (ended.value.code, out) == (errors.EXIT_USAGE, "")
        _, found, listed = err.rstrip("\n").partition(f" means nothing to {command}; it is an option of: ")
        assert found
        taking = {name for name, options in TAKEN.items() if option in options}
        assert taking <= set(listed.split(", "))
        assert command not in listed.split(", ")


def test_every_option_is_taken_by_somebody() -> None:
    """A table that is never met would be green."""
    assert set().union(*TAKEN.values()) == set(OPTIONS)


@pytest.mark.parametrize("command", ["monitor", "files", "libs", "snapshot"])
def test_more_and_less_at_once_mean_nothing(command: str) -> None:
    """Refused before anything is looked at."""
    for words in (("--verbose", "--quiet"), ("-qv",)):
        done = run(command, *words)
        assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
        assert "not allowed with argument" in said(done)[-1]


def test_defaults_are_those_of_the_documentation() -> None:
    """A stream is lines without an end, a document one JSON."""
    for command in ("monitor", "files", "libs"):
        args = cli._parse([command])
        assert (args.format, args.duration, args.output, args.no_redact) == ("json-stream", 0, None, False)
    assert cli._parse(["profile"]).duration == 30
    args = cli._parse(["snapshot"])
    assert (args.format, args.output, args.no_redact) == ("json-pretty", None, False)


@pytest.mark.parametrize("text", ["0", "1", "60", "86401", "604800", "2147483647", "0060"])
def test_a_duration_is_any_whole_number_of_seconds(text: str) -> None:
    """0 is no end."""
    assert _options.duration(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.5", "1x", "1e3", " 1", "²", "٣", "2147483648", "9" * 5000]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """And a very long one is not repeated."""
    with pytest.raises(
        argparse.ArgumentTypeError, match="is not a whole number of seconds from 0 to"
    ) as error:
        _options.duration(text)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("text", ["", "0", "-1", "abc", "4194305", "1.0", "9" * 5000])
def test_what_is_no_process_number_is_refused(text: str) -> None:
    """Linux has no larger ones."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a process's number from 1 to 4194304"):
        _options.pid(text)
    assert _options.pid("4194304") == 4194304


@pytest.mark.parametrize("option", ["--name", "--library", "--file"])
def test_an_empty_filter_is_a_variable_that_was_not_set(option: str) -> None:
    """It would show everything, or nothing."""
    done = run("monitor", option, "")

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert said(done)[-1].endswith("it is empty; leave the option out to show all")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("monitor", "--follow-children"), "--follow-children needs --pid"),
        (("libs", "--follow-children", "--name", "x"), "--follow-children needs --pid"),
        (("monitor", "-l", "x", "-F", "y"), "no event is about a library and a file"),
        (
            ("snapshot", "--scanner", "host", "--pid", "1"),
            "filters choose processes; add --scanner processes",
        ),
        (("monitor", "nonsense"), "unrecognized arguments: nonsense"),
        (("monitor", "--nonsense", "--scanner", "x"), "--scanner means nothing to monitor"),
    ],
)
def test_what_means_nothing_together_is_refused(words: tuple[str, ...], complaint: str) -> None:
    """Before anything is looked at, and with what to do."""
    done = run(*words)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert complaint in said(done)[-1]
