# SPDX-License-Identifier: Apache-2.0
"""Does the kernel half see every program that is started and every process that ends, as it was?"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent.kernel.monitor import Window
from agent.kernel.probes.process_exec import ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.model import canonical
from tests.bpf.kinds import Doer, Watch

pytestmark = [pytest.mark.root, pytest.mark.kernel]

# A prime, so that no multiple of it is right by accident.
TIMES = 23


# -- starts


def test_every_start_is_one_event_with_its_arguments(watch: Watch, doer: Doer, doer_path: Path) -> None:
    """They are read as the program starts: it has ended when the event is read."""

    # Given a program
    # When it is started 23 times
    def action(_: Window) -> None:
        for number in range(TIMES):
            doer("exit", "0", f"--password=hunter{number}")

    before = canonical.timestamp(time.time_ns() - 1_000_000)
    seen = watch(action, "process_exec")
    # Then there are 23 events with all that it was given
    events = seen.execs(doer_path)
    assert [list(event.argv) for event in events] == [
        [os.fsencode(doer_path), b"exit", b"0", b"--password=hunter%d" % number] for number in range(TIMES)
    ]
    assert {(event.ppid, event.process, event.uid) for event in events} == {(os.getpid(), "doer", 0)}
    assert {event.truncated for event in events} == {False}
    assert len({event.pid for event in events}) == TIMES
    assert before < events[0].timestamp < events[-1].timestamp < canonical.timestamp(time.time_ns())
    # And no secret gets out by printing the event
    assert "hunter" not in str(events)


@pytest.mark.parametrize(
    "words",
    [
        [b""],
        [b"", b"", b""],
        [b"invalid\xff\xfe", b"line\nbreak", b"\x01\x02\x1b[31m"],
        ["schlüssel".encode(), b"back\\slash", b'quote"', b" "],
        [b"x"] * 1000,
    ],
)
def test_arguments_come_as_they_are(words: list[bytes], watch: Watch, doer: Doer, doer_path: Path) -> None:
    """Bytes, not text: whoever prints them has to make them text."""
    seen = watch(lambda _: doer("exit", "0", *words), "process_exec")
    (event,) = seen.execs(doer_path)
    assert list(event.argv) == [os.fsencode(doer_path), b"exit", b"0", *words]
    assert not event.truncated


def test_arguments_beyond_the_bound_are_cut_and_that_is_said(
    watch: Watch, doer: Doer, doer_path: Path
) -> None:
    """A program may be given 2 MB of them."""
    # Given 100 KiB of arguments
    # When a program is started with them
    seen = watch(lambda _: doer("exit", "0", b"a" * 100 * 1024, b"last"), "process_exec")
    # Then the first 4,096 bytes are there
    (event,) = seen.execs(doer_path)
    assert event.truncated
    assert len(b"\0".join(event.argv)) == 4096
    assert event.argv[1] == b"exit"


def test_a_script_is_its_interpreter_with_its_name(watch: Watch, tmp_path: Path) -> None:
    """What the kernel executes is the interpreter; the script is its argument."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\nexit 0\n")
    script.chmod(0o755)
    seen = watch(lambda _: subprocess.run([script, "word"], check=True), "process_exec")
    (event,) = [
        one for one in seen.events if isinstance(one, ProcessExec) and os.fsencode(script) in one.argv
    ]
    assert event.exe == os.path.realpath("/bin/sh")
    assert list(event.argv) == [b"/bin/sh", b"-e", os.fsencode(script), b"word"]
    assert event.process == "script"


def test_a_name_of_control_bytes_is_a_name(watch: Watch, doer: Doer, doer_path: Path, tmp_path: Path) -> None:
    """Any user can call a process so; the agent runs as root."""
    # Given a program whose name is 15 control bytes, and a process that calls itself so
    name = bytes(range(1, 16))
    program = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(doer_path, os.fsdecode(program))

    # When they do something
    def action(_: Window) -> None:
        subprocess.run([program, "exit", "0"], check=True)
        doer("name", b"\xff" * 15, "true")

    seen = watch(action, "process_exec", "process_exit")
    # Then the name is whole
    started = [event for event in seen.events if event.exe == canonical.escape_bytes(program)]
    assert {event.process for event in started} == {name.decode()}
    assert len(started) == 2
    assert "\\xff" * 15 in {event.process for event in seen.exits(doer_path)}


def test_another_thread_may_execute(watch: Watch, doer_path: Path) -> None:
    """It becomes the process then, with its number; the others are gone."""
    seen = watch(lambda _: subprocess.run([doer_path, "reexec"], check=False), "process_exec", "process_exit")
    first, second = seen.execs(doer_path)
    (end,) = seen.exits(doer_path)
    assert first.pid == second.pid == second.tid == end.pid
    assert list(second.argv[1:]) == [b"exit", b"7"]
    assert first.start_ns == second.start_ns == end.start_ns
    assert (end.exit_code, end.signal) == (7, None)


def test_what_could_not_be_executed_is_no_start(watch: Watch, tmp_path: Path) -> None:
    """The process is still the one that tried."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)

    def action(_: Window) -> None:
        with pytest.raises(OSError, match="Exec format error"):
            subprocess.run([broken], check=False)

    seen = watch(action, "process_exec")
    assert seen.execs(broken) == []


# -- ends


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_an_exit_code_is_what_the_program_gave(code: int, watch: Watch, doer: Doer, doer_path: Path) -> None:
    """Not the kernel's status, in which 1 is 256."""

    def action(_: Window) -> None:
        for _time in range(TIMES):
            assert doer("exit", str(code)).returncode == code

    seen = watch(action, "process_exit")
    events = seen.exits(doer_path)
    assert len(events) == len({event.pid for event in events}) == TIMES
    assert {(event.exit_code, event.signal, event.core_dumped) for event in events} == {(code, None, False)}
    assert {(event.ppid, event.process) for event in events} == {(os.getpid(), "doer")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN + 3])
def test_who_was_killed_is_told_with_the_signal(
    number: int, watch: Watch, doer: Doer, doer_path: Path
) -> None:
    """In the exit code that a shell would show."""
    done = []
    seen = watch(lambda _: done.append(doer("raise", str(number))), "process_exit")
    (event,) = seen.exits(doer_path)
    assert done[0].returncode == -number
    assert event.exit_code == 128 + number
    name = "SIGRTMIN+3" if number > signal.SIGRTMIN else signal.Signals(number).name
    assert event.signal == name


def test_a_core_is_told(
    watch: Watch, doer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in the process's memory, keys included, lies in a file then."""
    # Given a process that may leave a core
    if not Path("/proc/sys/kernel/core_pattern").read_text().strip():
        pytest.skip("this kernel writes no cores (core_pattern is empty)")
    monkeypatch.chdir(tmp_path)
    statuses: list[int] = []

    # When it is ended by a signal that leaves one
    def action(_: Window) -> None:
        child = os.posix_spawn(doer_path, [str(doer_path), "raise", "6"], os.environ)
        statuses.append(os.waitpid(child, 0)[1])

    seen = watch(action, "process_exit")
    # Then the event says what wait(2) says
    (event,) = seen.exits(doer_path)
    assert event.core_dumped == os.WCOREDUMP(statuses[0])
    assert (event.signal, event.exit_code) == ("SIGABRT", 134)


@pytest.mark.parametrize("way", ["threads", "orphan", "storm"])
def test_a_process_of_many_threads_ends_once(way: str, watch: Watch, doer: Doer, doer_path: Path) -> None:
    """Whichever thread is the last, and though two may find that they are."""

    # Given a process of several threads, which end together, one after the other, or all at once
    # When it runs 23 times
    def action(_: Window) -> None:
        for _time in range(TIMES):
            assert doer(way, "5").returncode == 5

    seen = watch(action, "process_exit")
    # Then there are 23 events, each with the exit code that its parent got
    events = seen.exits(doer_path)
    assert len(events) == len({event.pid for event in events}) == TIMES
    assert {(event.exit_code, event.process) for event in events} == {(5, "doer")}


def test_a_fork_that_executes_nothing_ends_too(watch: Watch, tmp_path: Path) -> None:
    """Its executable is its parent's."""
    shell = tmp_path / "shell"
    shutil.copy(os.path.realpath("/bin/sh"), shell)
    seen = watch(lambda _: subprocess.run([shell, "-c", "(exit 9); exit 4"], check=False))
    assert len(seen.execs(shell)) == 1
    assert [event.exit_code for event in seen.exits(shell)] == [9, 4]


def test_full_rings_are_counted_exactly(watch: Watch, doer: Doer, doer_path: Path) -> None:
    """Each probe has its own account, and nothing is in none of them."""

    # Given rings of one page
    def action(_: Window) -> None:
        for _time in range(5 * TIMES):
            doer("exit", "0")

    # When more happens than fits
    seen = watch(action, "process_exec", "process_exit", ring_bytes=os.sysconf("SC_PAGE_SIZE"))
    # Then what came and what was lost is all that happened
    for probe, events in (("process_exec", seen.execs(doer_path)), ("process_exit", seen.exits(doer_path))):
        stats = seen.stats[probe]
        assert 0 < len(events) < 5 * TIMES
        assert len(events) + stats.lost >= 5 * TIMES
        assert stats.submitted == stats.delivered
        assert stats.unseen == stats.lost == sum(stats.lost_by_cpu)


# -- together


def test_a_life_is_told_in_its_order(watch: Watch, tmp_path: Path) -> None:
    """Start, libraries, files, end: though each has a ring of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    # Given a program that loads libraries and opens files, under a name that nobody else runs
    key, exe = tmp_path / "a.key", str(tmp_path / "openssl")
    shutil.copy(shutil.which("openssl") or "", exe)
    # When it runs
    command = [exe, "genpkey", "-algorithm", "ed25519", "-out", str(key)]
    seen = watch(lambda _: [subprocess.run(command, check=True) for _time in range(TIMES)])
    # Then its events are in the order of its life, in every one of its lives
    lives: dict[int, list[str]] = {}
    for event in seen.events:
        if event.exe == exe:
            lives.setdefault(event.pid, []).append(type(event).__name__)
    assert len(lives) == TIMES
    assert {kinds[0] for kinds in lives.values()} == {"ProcessExec"}
    assert {kinds[-1] for kinds in lives.values()} == {"ProcessExit"}
    for kinds in lives.values():
        assert kinds.index("FileOpen") > kinds.index("LibLoad")
    stamps = [event.timestamp for event in seen.events]
    assert stamps == sorted(stamps)


def test_exits_pair_with_starts(watch: Watch, doer: Doer, doer_path: Path) -> None:
    """By number and start, which no other process has."""
    seen = watch(lambda _: [doer("exit", str(code)) for code in range(TIMES)], "process_exec", "process_exit")
    started = {(event.pid, event.start_ns) for event in seen.execs(doer_path)}
    ended = {(event.pid, event.start_ns) for event in seen.exits(doer_path)}
    assert started == ended
    assert sorted(event.exit_code for event in seen.exits(doer_path)) == list(range(TIMES))
    assert all(isinstance(event, ProcessExec | ProcessExit) for event in seen.events)
