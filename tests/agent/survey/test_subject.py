# SPDX-License-Identifier: Apache-2.0
"""Processes that were asked for, by number or name: real ones, with names that programs give themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent import errors
from agent.host import Host
from agent.survey import subject
from agent.survey.subject import Subject

Start = Callable[..., subprocess.Popen[bytes]]

# Begins under a name of its own (PR_SET_NAME, prctl(2)), says that it is ready, and waits for its standard
# input to end.
NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(name: bytes, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", NAMED, name.hex(), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in running:
        process.communicate()


def test_a_process_is_what_ps_says_it_is(start: Start) -> None:
    """By another reader of /proc."""
    process = start(b"seen", "--flag", "two words")
    found = subject.by_pid(Host(), process.pid)
    said = subprocess.run(
        ["ps", "-o", "comm=,ppid=,ruid=,rgid=", "-p", str(process.pid)], capture_output=True, check=True
    )

    assert [found.name, str(found.parent), str(found.uid), str(found.gid)] == said.stdout.decode().split()
    assert found.exe == os.path.realpath(sys.executable)
    assert found.argv is not None
    assert found.argv[-2:] == (b"--flag", b"two words")
    assert not found.is_argv_cut


def test_a_name_of_control_bytes_is_one_text(start: Start) -> None:
    """Whoever runs a program may call it anything of 15 bytes."""
    name = bytes(range(1, 16))
    process = start(name)

    assert subject.by_pid(Host(), process.pid).name == name.decode()
    assert subject.by_name(Host(), "\x01\x02\x03")[0].pid == process.pid


def test_a_name_that_is_no_text_is_found_by_its_bytes(start: Start) -> None:
    """And told by their escape."""
    process = start(b"\xff\xfe\\x")

    found, _ = subject.by_name(Host(), os.fsdecode(b"\xff\xfe"))

    assert found.pid == process.pid
    assert found.name == "\\xff\\xfe\\\\x"


def test_of_several_the_first_is_meant_and_the_others_are_counted(start: Start) -> None:
    """Case counts, and part of a name is enough."""
    first, second = start(b"zqTwin"), start(b"zqTwin2")
    start(b"zqtwin")

    found, others = subject.by_name(Host(), "qTwin")

    assert found.pid == min(first.pid, second.pid)
    assert others == 1
    with pytest.raises(errors.AgentError, match="no process is called like 'QTWIN'"):
        subject.by_name(Host(), "QTWIN")


def test_what_is_no_process_is_refused_with_the_reason(start: Start) -> None:
    """Numbers come from scripts."""
    process = start(b"gone")
    process.communicate()
    ended = subprocess.Popen(["true"])
    while not subject.read(Host(), ended.pid) or subject.is_alive(
        Host(), subject._read(Host(), ended.pid)[0]
    ):
        time.sleep(0.01)
    inner = threading.Event()
    number: list[int] = []

    def work() -> None:
        number.append(threading.get_native_id())
        inner.wait()

    thread = threading.Thread(target=work)
    thread.start()
    while not number:
        time.sleep(0.01)
    try:
        with pytest.raises(errors.AgentError, match=f"{number[0]} is a thread of process {os.getpid()}"):
            subject.by_pid(Host(), number[0])
    finally:
        inner.set()
        thread.join()
    with pytest.raises(errors.AgentError, match=f"there is no process {process.pid}"):
        subject.by_pid(Host(), process.pid)
    with pytest.raises(errors.AgentError, match=f"process {ended.pid} has ended"):
        subject.by_pid(Host(), ended.pid)
    ended.wait()


def test_descendants_are_found_over_generations(start: Start) -> None:
    """A shell in a shell; the agent's own children are none of anybody's."""
    script = "sh -c 'sleep 30; true' & echo $!; wait"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        host = Host()
        main = subject.by_pid(host, process.pid)
        found: list[Subject] = []
        # Between fork and exec it is called as its parent.
        while "sleep" not in {one.name for one in found}:
            found = subject.descendants(host, main)

        assert child in {one.pid for one in found}
        assert len(found) == 2
        assert process.pid not in {one.pid for one in found}
    finally:
        os.killpg(process.pid, 9)
        process.communicate()


def test_the_start_is_told_by_the_wall_clock_and_twice_the_same(start: Start) -> None:
    """To a hundredth of a second, which is all that /proc tells."""
    before_ns = time.time_ns()
    process = start(b"clock")
    after_ns = time.time_ns()
    found = subject.by_pid(Host(), process.pid)

    first, second = (subject.start_ns(Host(), found.start_ticks) for _ in range(2))

    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert before_ns - 2 * tick_ns <= first <= after_ns + 2 * tick_ns
    assert abs(first - second) in (0, tick_ns)
    assert first % tick_ns == 0


def test_it_is_told_from_another_process_with_its_number(start: Start) -> None:
    """By its start; an event that knows none is believed."""
    found = subject.by_pid(Host(), start(b"same").pid)
    start_ns = found.start_ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    assert found.is_same(found.pid, start_ns)
    assert found.is_same(found.pid, 0)
    assert not found.is_same(found.pid, start_ns + 1_000_000_000)
    assert not found.is_same(found.pid + 1, start_ns)


def test_what_it_was_given_stays_out_of_messages(start: Start) -> None:
    """A subject in a traceback or a log shows no argument."""
    found = subject.by_pid(Host(), start(b"secret", "--password", "S3cr3t").pid)

    assert "S3cr3t" not in f"{found} {found!r}"


def test_a_long_command_line_is_cut_and_says_so(start: Start) -> None:
    """A page may have two megabytes."""
    found = subject.by_pid(Host(), start(b"long", *["x" * 1000] * 40).pid)

    assert found.is_argv_cut
    assert found.argv is not None
    assert sum(map(len, found.argv)) < 20_000
