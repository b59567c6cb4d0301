# SPDX-License-Identifier: Apache-2.0
"""Manual pages and completion, read by the programs that users read them with."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli
from agent.packaging import manuals

COMMANDS = manuals.commands(cli.build_parser())
NAMES = sorted(COMMANDS)
# What mandoc says of pages that are as they should be: our lines are as long as they need to be, and a date
# would be the build's.
ACCEPTED = re.compile(
    r"longer than 80 bytes|missing date|\.so is fragile|\.so request failed|missing manual title"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, written once."""
    place = tmp_path_factory.mktemp("manuals")
    manuals.main(place)
    return place


def need(program: str) -> str:
    """A program of the system's, or a skip that names it."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def output(*words: str | Path, **environment: str) -> str:
    """What a program prints; anything on standard error is a failure."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"} | environment
    done = subprocess.run(
        words, check=False, capture_output=True, env=env, timeout=60, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr.decode()) == (0, ""), words
    return done.stdout.decode()


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a command, in all its spellings."""
    return {option for action in parser._actions for option in action.option_strings}


# -- manual pages --------------------------------------------------------------------------------------------


def test_every_command_has_its_page_and_the_old_name_leads_to_ours(made: Path) -> None:
    """git's way: one page for each command, and one for all."""
    pages = {path.name for path in (made / "man").iterdir()}

    assert pages == {"crypto-tracer.1", "fleet-agent.1", *(f"fleet-agent-{name}.1" for name in NAMES)}


@pytest.mark.parametrize("page", ["fleet-agent", *(f"fleet-agent-{name}" for name in NAMES)])
def test_man_shows_it_without_a_warning(made: Path, page: str) -> None:
    """In the section where shells' users look, with a name that apropos(1) can list."""
    need("man")
    # The system's own manual database is none of this test's.
    shown = output(
        "man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", made / "man" / f"{page}.1", MANWIDTH="200"
    )

    assert shown.startswith(f"{page.upper()}(1)")
    assert re.search(rf"^NAME\n +{page} +- \S", shown, re.MULTILINE)
    for heading in ("SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert f"\n{heading}\n" in shown


@pytest.mark.parametrize("page", ["fleet-agent", *(f"fleet-agent-{name}" for name in NAMES)])
def test_mandoc_finds_nothing_wrong_with_it(made: Path, page: str) -> None:
    """The reader of Alpine and the BSDs is the stricter one."""
    need("mandoc")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "all", made / "man" / f"{page}.1"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert [line for line in done.stdout.splitlines() if not ACCEPTED.search(line)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_every_option_and_every_example_of_its_command(made: Path, name: str) -> None:
    """Word for word as --help has them."""
    need("mandoc")
    shown = output("mandoc", "-T", "utf8", "-O", "width=300", made / "man" / f"fleet-agent-{name}.1")
    shown = re.sub(".\b", "", shown).replace("\u2010", "-")

    # --help is in the synopsis, as -h.
    assert {option for option in options(COMMANDS[name]) if option not in shown} <= {"--help"}
    examples, found, _ = (COMMANDS[name].epilog or "").partition("exit codes:")
    assert found
    for line in re.findall(rf"^  (fleet-agent {name}.*)$", examples, re.MULTILINE):
        assert line in shown


def test_man_finds_the_old_name(made: Path, tmp_path: Path) -> None:
    """Who has `crypto-tracer` in scripts asks for it by that name."""
    need("man")
    shutil.copytree(made / "man", tmp_path / "man1")

    shown = output("man", "-M", tmp_path, "-P", "cat", "crypto-tracer", MANWIDTH="100")

    assert shown.startswith("FLEET-AGENT(1)")


def test_the_overview_names_every_file_and_variable_that_is_read(made: Path) -> None:
    """At 3 a.m. one page is enough."""
    page = (made / "man" / "fleet-agent.1").read_text().replace("\\", "")

    for word in ("/etc/cryptofleet/disabled", "/etc/cryptofleet/agent.toml", "CRYPTOFLEET_TOKEN", "TMPDIR"):
        assert word in page


def test_what_only_looks_like_a_request_is_text() -> None:
    """A line that began with a dot or a quote would vanish without a word."""
    assert (
        manuals._sound(".SH NAME\n.pem files\n'*.pem'\n.B x\n")
        == ".SH NAME\n\\&.pem files\n\\&'*.pem'\n.B x\n"
    )


@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "40"}, {"LC_ALL": "C"}, {"TZ": "Pacific/Auckland"}, {"PYTHONHASHSEED": "7"}]
)
def test_the_same_bytes_whoever_writes_them(
    made: Path, house: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A package of them is reproducible."""
    env = {"PATH": os.environ["PATH"]} | environment
    subprocess.run([sys.executable, house / "agent/packaging/manuals.py", tmp_path], check=True, env=env)

    def content(place: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()
        }

    assert content(tmp_path) == content(made)


# -- completion ----------------------------------------------------------------------------------------------

# A line as it stands when Tab is pressed, and what is offered, at least and at most.
LINES = [
    ("fleet-agent sta", {"status"}, {"status"}),
    ("fleet-agent snapshot --fo", {"--format"}, {"--format"}),
    ("fleet-agent snapshot --format js", {"json-pretty", "json-stream", "json-array"}, None),
    ("fleet-agent run --sink h", {"https"}, {"https"}),
    ("fleet-agent snapshot --scanner cer", {"certificates"}, {"certificates"}),
    ("fleet-agent status --for mon", {"monitor"}, {"monitor"}),
    ("fleet-agent snapshot --output /etc/host", {"/etc/hostname", "/etc/hosts"}, None),
    ("fleet-agent snapshot --nonsense-", set(), set()),
]


def bash_offers(script: Path, line: str) -> set[str]:
    """What bash would offer: the function that `complete` names, called as bash calls it (bash(1))."""
    program = """
        source "$1"; shift
        [[ $(complete -p fleet-agent) =~ -F\\ ([^ ]+) ]] || exit 9
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        ${BASH_REMATCH[1]} fleet-agent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    said = output("bash", "--norc", "--noprofile", "-c", program, "bash", script, *line.split(" "))
    return set(said.split("\n")) - {""}


@pytest.mark.parametrize(("line", "least", "most"), LINES, ids=[line for line, *_ in LINES])
def test_bash_offers_what_can_follow(made: Path, line: str, least: set[str], most: set[str] | None) -> None:
    """In a real bash."""
    need("bash")
    offered = bash_offers(made / "completion/bash/fleet-agent", line)

    assert least <= offered
    assert most is None or offered <= most


@pytest.mark.parametrize(("line", "least", "most"), LINES, ids=[line for line, *_ in LINES])
def test_fish_offers_what_can_follow(made: Path, line: str, least: set[str], most: set[str] | None) -> None:
    """In a real fish, which can be asked."""
    need("fish")
    script = made / "completion/fish/fleet-agent.fish"
    said = output("fish", "--no-config", "-c", f"source {script}; complete -C '{line}'", HOME=str(made))
    offered = {one.partition("\t")[0] for one in said.splitlines()}

    assert least <= offered
    assert most is None or offered <= most


# A zsh on a terminal of its own: compinit finds the script by its first line, and Tab is pressed.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w shell "bindkey '^I' complete-word"
zpty -w shell "list () { print -r -- \"<\$BUFFER>\"; BUFFER=; zle accept-line }"
zpty -w shell "zle -N list; bindkey '^X' list"
zpty -w shell "print READ''Y"
zpty -r -m shell out '*READY*' || exit 9
zpty -w -n shell "$2"$'\t\x18'
zpty -r -m shell out '*>*' || exit 8
print -r -- "$out"
"""


@pytest.mark.parametrize(("line", "least", "most"), [one for one in LINES if one[1] == one[2] and one[1]])
def test_zsh_completes_what_can_follow(made: Path, line: str, least: set[str], most: set[str] | None) -> None:
    """In a real zsh, at a terminal of its own: the word is completed where only one fits."""
    need("zsh")
    script = made / "completion/zsh"
    said = output("zsh", "-f", "-c", ZSH, "zsh", script, line, HOME=str(made), TERM="dumb")

    (word,) = least
    assert f"<{line.rpartition(' ')[0]} {word} >" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
