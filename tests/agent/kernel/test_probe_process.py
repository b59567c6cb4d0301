# SPDX-License-Identifier: Apache-2.0
"""Do records of starts and ends become the events that they are, and do arguments keep their secrets?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel import event
from agent.kernel.probes import process_exec, process_exit
from agent.kernel.probes.process_exec import Argv
from tests.agent.kernel.records import COMMON, EXE, OFFSET_NS, record


def start(argv: bytes, exe: bytes = EXE, *, notes: int = 0, kind: int = event.EVENT_PROCESS_EXEC) -> bytes:
    """A record of process_exec."""
    return record(event.PROCESS_EXEC, kind, 99, len(argv), len(exe), 0, tail=argv + exe, notes=notes)


def end(status: int, exe: bytes = EXE, *, kind: int = event.EVENT_PROCESS_EXIT) -> bytes:
    """A record of process_exit."""
    return record(event.PROCESS_EXIT, kind, 99, status, len(exe), 0, tail=exe)


def test_an_ordinary_start_is_told_whole() -> None:
    """Every field has its own value here, so none can be exchanged."""
    seen = process_exec.decode(start(b"nginx\0-g\0daemon off;\0"), OFFSET_NS)
    assert msgspec.to_builtins(msgspec.structs.replace(seen, argv=None)) == {
        "event_type": "process_exec",
        **COMMON,
        "exe": "/usr/sbin/nginx",
        "ppid": 99,
        "argv": None,
    }
    assert seen.argv == Argv([b"nginx", b"-g", b"daemon off;"])


@given(st.lists(st.binary(max_size=20).filter(lambda word: b"\0" not in word), min_size=1, max_size=20))
def test_any_arguments_come_back(words: list[bytes]) -> None:
    """Empty ones too, at the end too."""
    seen = process_exec.decode(start(b"".join(word + b"\0" for word in words)), 0)
    assert list(seen.argv) == words


def test_no_arguments_are_none() -> None:
    """They could not be read, and that is said."""
    seen = process_exec.decode(start(b"", notes=event.NOTE_ARGV_CUT), 0)
    assert (list(seen.argv), seen.truncated) == ([], True)


def test_arguments_are_neither_printed_nor_encoded() -> None:
    """Whoever wants to show them has to say how, and so cannot forget to mask them."""
    # Given a start with a password
    seen = process_exec.decode(start(b"mysql\0--password=hunter2\0"), 0)
    # When somebody logs it, raises it or encodes it without thinking
    # Then the password is not in it
    assert "hunter2" not in f"{seen} {seen!r} {seen.argv} {seen.argv!r} {ValueError(seen)}"
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        with pytest.raises(TypeError, match="Argv"):
            encode(seen)
    # And who says how gets what he makes of it
    assert b"***" in msgspec.json.encode(seen, enc_hook=lambda argv: "***" * len(argv))


def test_arguments_are_a_sequence_of_bytes() -> None:
    """So that whoever masks them needs to know nothing else."""
    argv = Argv([b"a", b"b", b"c"])
    assert (argv[0], argv[1:], len(argv), b"b" in argv) == (b"a", (b"b", b"c"), 3, True)
    assert argv == Argv((b"a", b"b", b"c"))
    assert argv != (b"a", b"b", b"c")
    assert len({argv, Argv([b"a", b"b", b"c"])}) == 1


def test_an_ordinary_end_is_told_whole() -> None:
    """What says nothing is left out."""
    assert msgspec.to_builtins(process_exit.decode(end(42 << 8), OFFSET_NS)) == {
        "event_type": "process_exit",
        **COMMON,
        "exe": "/usr/sbin/nginx",
        "ppid": 99,
        "exit_code": 42,
    }


@given(st.integers(min_value=0, max_value=0xFFFF).filter(lambda status: status & 0x7F != 0x7F))
def test_a_status_means_what_wait_says(status: int) -> None:
    """The C library's own macros are the witness; 0x7f is a stopped process, which has not ended."""
    seen = process_exit.decode(end(status), 0)
    if os.WIFEXITED(status):
        assert (seen.exit_code, seen.signal) == (os.WEXITSTATUS(status), None)
    else:
        assert seen.exit_code == 128 + os.WTERMSIG(status)
        assert seen.signal is not None
        assert seen.core_dumped == os.WCOREDUMP(status)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (9, "SIGKILL"),
        (6, "SIGABRT"),
        (32, "SIG32"),
        (33, "SIG33"),
        (signal.SIGRTMIN, "SIGRTMIN"),
        (signal.SIGRTMIN + 1, "SIGRTMIN+1"),
        (signal.SIGRTMAX, "SIGRTMAX"),
        (100, "SIGRTMIN+66"),
    ],
)
def test_signals_have_their_names(number: int, name: str) -> None:
    """Also those that have none of their own."""
    assert process_exit.signal_name(number) == name


def test_shells_count_the_same() -> None:
    """Who compares with `$?` must find the same number."""
    script = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1"; echo $?', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(shell.stdout) == process_exit.decode(end(signal.SIGTERM), 0).exit_code


@pytest.mark.parametrize(
    "bad",
    [
        start(b"a\0", kind=event.EVENT_PROCESS_EXIT),
        start(b"a\0")[:-1],
        start(b"a" * (event.ARGV_BYTES_MAX + 1)),
        start(b"a\0", exe=b"no end"),
    ],
)
def test_a_start_that_contradicts_itself_is_malformed(bad: bytes) -> None:
    """Nothing in it can be trusted then."""
    with pytest.raises(event.MalformedEventError):
        process_exec.decode(bad, 0)


@pytest.mark.parametrize("bad", [end(0, kind=event.EVENT_PROCESS_EXEC), end(0)[:-1], end(0, exe=b"no end")])
def test_an_end_that_contradicts_itself_is_malformed(bad: bytes) -> None:
    """Nothing in it can be trusted then."""
    with pytest.raises(event.MalformedEventError):
        process_exit.decode(bad, 0)
