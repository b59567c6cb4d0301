# SPDX-License-Identifier: Apache-2.0
"""The lines that users of crypto-tracer have in their scripts, through a link of that name."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import cli, errors
from agent.cli import _alias
from tests.agent.cli.commands import AS_NOBODY, Done, may_be_nobody, run, said
from tests.agent.fake_host import FakeHost

INSTALLED = Path(sys.executable).with_name("fleet-agent")
# The documented ones, with what each of them asks for.
LINES: dict[str, dict[str, Any]] = {
    "crypto-tracer monitor --format json-stream": {"format": "json-stream", "duration": 0, "output": None},
    "crypto-tracer monitor --duration 60 --output events.json": {
        "duration": 60, "output": "events.json", "overwrite": True,
    },
    'crypto-tracer monitor --name nginx --file "*.pem"': {"name": "nginx", "file": "*.pem"},
    "crypto-tracer monitor --duration 60 --output /output/events.json": {"duration": 60},
    "crypto-tracer monitor --library libssl": {"library": "libssl"},
    "crypto-tracer snapshot": {"format": "json-pretty", "output": None},
    "crypto-tracer snapshot --format json-pretty": {"format": "json-pretty"},
    "crypto-tracer snapshot --output /tmp/crypto-snapshot.json": {"output": "/tmp/crypto-snapshot.json"},
    "crypto-tracer snapshot --output /tmp/snapshot.json": {"output": "/tmp/snapshot.json"},
    "crypto-tracer libs": {"format": "json-stream", "duration": 0},
    "crypto-tracer libs --library libssl": {"library": "libssl"},
    "crypto-tracer files --file '/etc/ssl/*'": {"file": "/etc/ssl/*"},
    "crypto-tracer files --no-redact": {"no_redact": True},
    "crypto-tracer profile --pid 1234": {"pid": 1234, "duration": 30, "format": "json-pretty"},
    "crypto-tracer profile --name nginx --duration 60 --output profile.json --follow-children": {
        "name": "nginx", "duration": 60, "output": "profile.json", "follow_children": True,
    },
    "crypto-tracer profile --pid 1234 --duration 0 --library x": {"duration": 30},
    # Short, and what getopt_long(3) makes of them.
    "crypto-tracer monitor -d 5 -p 7 -n nginx -l libssl -f summary -q": {
        "duration": 5, "pid": 7, "name": "nginx", "library": "libssl", "format": "summary", "quiet": True,
    },
    "crypto-tracer monitor -qd5 -nnginx": {"duration": 5, "quiet": True, "name": "nginx"},
    "crypto-tracer monitor --no-red --dur=5 --out events.json": {
        "no_redact": True, "duration": 5, "output": "events.json",
    },
    "crypto-tracer monitor --name a --name b": {"name": "b"},
    "crypto-tracer monitor --name -x --file --verbose": {"name": "-x", "file": "--verbose"},
    "crypto-tracer monitor -d ''": {"duration": 0},
    "crypto-tracer monitor --name ''": {"name": None},
    "crypto-tracer monitor --duration 604800": {"duration": 604800},
    # Accepted there, and meaning nothing.
    "crypto-tracer snapshot -d 5 --follow-children": {"format": "json-pretty"},
    "crypto-tracer files --library libssl --file '*.pem'": {"file": "*.pem"},
    "crypto-tracer libs --file '*.pem'": {"library": None},
    "crypto-tracer monitor --follow-children": {"pid": None},
    # New ones, by the old name.
    "crypto-tracer monitor --strict --state-dir /x": {"strict": True, "state_dir": "/x"},
    "crypto-tracer snapshot --scanner host --root /x": {"scanner": ["host"], "root": "/x"},
}  # fmt: skip


@pytest.fixture
def called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the entry point finds it when the link was called."""
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/crypto-tracer"])


@pytest.fixture
def tracer(tmp_path: Path) -> Path:
    """The link."""
    if not INSTALLED.exists():
        pytest.skip(f"this checkout is not installed: there is no {INSTALLED}")
    link = tmp_path / "bin" / "crypto-tracer"
    link.parent.mkdir()
    link.symlink_to(INSTALLED)
    return link


def call(tracer: Path, *words: str | Path) -> Done:
    """One command by the old name."""
    return run(*words, agent=(tracer,))


@pytest.mark.usefixtures("called_so")
@pytest.mark.parametrize("line", LINES)
def test_a_users_line_asks_for_what_it_asked_for(line: str) -> None:
    """Word for word, with the defaults that are documented."""
    args = cli._parse(shlex.split(line)[1:])

    assert {name: getattr(args, name) for name in LINES[line]} == LINES[line]


@pytest.mark.parametrize(
    ("line", "ours", "warnings"),
    [
        ("monitor", "monitor", []),
        ("snapshot -d 5 -d 6", "snapshot", ["--duration means nothing to snapshot and is ignored"] * 2),
        ("snapshot --follow", "snapshot", ["--follow-children means nothing to snapshot and is ignored"]),
        (
            "monitor --follow-children",
            "monitor",
            ["--follow-children means nothing without --pid and is ignored"],
        ),
        ("monitor --follow-children -p 7", "monitor --follow-children --pid=7", []),
        ("profile --follow-children -n x", "profile --follow-children --name=x", []),
        ("profile -d 0 -p 7", "profile --pid=7", ["--duration 0 means the usual time to profile"]),
        ("monitor -d ''", "monitor", ["--duration is empty and is ignored"]),
        ("monitor -o x", "monitor --output=x --overwrite", []),
        ("snapshot -o x", "snapshot --output=x", []),
        ("monitor --strict", "monitor --strict", []),
        ("monitor left -d 5 over", "monitor --duration=5 left over", []),
    ],
)
def test_a_line_in_our_words(line: str, ours: str, warnings: list[str]) -> None:
    """What is dropped is told."""
    all_have = ("help", "version", "verbose", "quiet", "no-redact", "strict")
    own = dict.fromkeys(all_have, False) | dict.fromkeys(("output", "format", "pid", "name"), True)
    if not line.startswith("snapshot"):
        own |= {"duration": True, "follow-children": False, "overwrite": False}

    assert _alias.understood(shlex.split(line), own) == (ours.split(), warnings)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("monitor", "--f", "x"), "option --f not a unique prefix"),
        (("monitor", "--ver"), "option --ver not a unique prefix"),
        (("monitor", "-R"), "option -R not recognized"),
        (("monitor", "--nonsense"), "option --nonsense not recognized"),
        (("monitor", "--duration"), "option --duration requires argument"),
        (("monitor", "--no-redact=yes"), "option --no-redact must not have an argument"),
        (("monitor", "--duration", "1x"), "'1x' is not a whole number of seconds"),
        (("monitor", "--duration", "-1"), "'-1' is not a whole number of seconds"),
        (("monitor", "--pid", "0"), "'0' is not a process's number from 1"),
        (("monitor", "--pid", "abc"), "'abc' is not a process's number from 1"),
        (("monitor", "--format", "xml"), "invalid choice: 'xml' (choose from 'json-array', "),
        (("snapshot", "--format", "xml"), "invalid choice: 'xml' (choose from 'inventory', "),
        (("monitor", "--verbose", "--quiet"), "not allowed with argument"),
        (("--quiet", "monitor"), "--quiet"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        ((), "COMMAND"),
    ],
)
def test_what_was_refused_is_refused(tracer: Path, words: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, nothing on standard output, and the words come from the name that was called."""
    done = call(tracer, *words)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert complaint in said(done)[-1]
    assert said(done)[-1].startswith("crypto-tracer")


def test_version_and_help_are_answers(tracer: Path) -> None:
    """As options and as commands, before and after a command; of an unknown command the general help."""
    (first, *_) = call(tracer, "--version").stdout.decode().splitlines()
    assert first.startswith("crypto-tracer 0.")
    for words in (("-V",), ("monitor", "--version"), ("snapshot", "-V")):
        assert call(tracer, *words).stdout.decode().splitlines() == [first]
    assert call(tracer, "version").stdout.decode().startswith(first)

    general = call(tracer, "--help")
    assert general.returncode == 0
    assert general.stdout.startswith(b"usage: crypto-tracer ")
    for words in (("-h",), ("help",), ("help", "nonsense")):
        assert call(tracer, *words).stdout == general.stdout
    page = call(tracer, "help", "monitor")
    assert page.stdout == call(tracer, "monitor", "-h").stdout
    assert b"crypto-tracer monitor --name nginx" in page.stdout
    assert b"fleet-agent" not in page.stdout


def test_what_means_nothing_is_ignored_aloud_and_silently_with_quiet(tracer: Path, tmp_path: Path) -> None:
    """A script of old goes on, and standard output is what it was."""
    web = FakeHost(tmp_path / "web")
    web.process(10)
    words = ("snapshot", "--root", web.root, "--duration", "5", "--follow-children")

    done = call(tracer, *words)
    assert (done.returncode, said(done)) == (
        0,
        [
            "crypto-tracer: --duration means nothing to snapshot and is ignored",
            "crypto-tracer: --follow-children means nothing to snapshot and is ignored",
        ],
    )
    assert json.loads(done.stdout)["summary"]["total_processes"] == 1
    assert said(call(tracer, *words, "--quiet")) == []


@pytest.mark.root
@pytest.mark.parametrize("command", ["monitor", "libs", "files"])
def test_without_privilege_the_code_is_the_documented_one(tracer: Path, command: str) -> None:
    """3, with what to grant."""
    may_be_nobody()
    if os.stat(tracer.parent.parent).st_mode & 0o005 != 0o005:
        tracer.parent.parent.chmod(0o755)

    done = run(command, "-d", "1", agent=(sys.executable, "-c", CALLED_SO), prefix=AS_NOBODY)

    assert (done.returncode, done.stdout) == (errors.EXIT_PRIVILEGE, b"")
    assert said(done)[-1].startswith("crypto-tracer: ")
    assert "run it as root, or grant" in said(done)[-1]


CALLED_SO = (
    "import sys; from agent import cli; words = sys.argv[1:]; sys.argv[0] = '/x/crypto-tracer';"
    "sys.exit(cli.main(words))"
)


def test_the_frozen_file_knows_the_name_it_was_called_by(frozen_agent: Path, tmp_path: Path) -> None:
    """It unpacks itself and begins anew, and the name must survive that."""
    link = tmp_path / "crypto-tracer"
    link.symlink_to(frozen_agent)

    assert run("--version", agent=(link,)).stdout.startswith(b"crypto-tracer ")
    assert run("--version", agent=(frozen_agent,)).stdout.startswith(b"fleet-agent ")
    by_path = run("--version", agent=("crypto-tracer",), env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert by_path.stdout.startswith(b"crypto-tracer ")
    assert said(run("snapshot", "--nonsense", agent=(link,)))[-1].startswith("crypto-tracer: option")
