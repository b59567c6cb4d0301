# SPDX-License-Identifier: Apache-2.0
"""Streams as users know them: four kinds of events, filters, formats, files that are rotated, the end."""

from __future__ import annotations

import _ctypes
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from agent import errors
from tests.agent import openssl
from tests.agent.cli.commands import run, said
from tests.agent.cli.watching import Watching, of, open_with, until

pytestmark = [pytest.mark.root, pytest.mark.kernel]

INSTALLED = Path(sys.executable).with_name("fleet-agent")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file that is called like a key, which nobody else on this machine opens."""
    key = tmp_path / f"{uuid.uuid4()}.key"
    key.touch()
    return key


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A shell with a name of its own, so that its events are told from those of the machine."""
    program = tmp_path / f"p{uuid.uuid4().hex[:8]}"
    shutil.copy(os.path.realpath("/bin/sh"), program)
    return program


def by(events: list[dict[str, Any]], program: Path) -> list[dict[str, Any]]:
    """Those of that program."""
    return [event for event in events if event["exe"] == str(program)]


# -- what is shown -------------------------------------------------------------------------------------------


def test_a_program_that_starts_and_ends_is_told_with_its_words_and_its_code(program: Path) -> None:
    """One start, one end, the real arguments, the code that it gave."""
    watching = Watching(command="monitor")
    subprocess.run([program, "-c", "exit 42", "two words", "--password=hunter2"], check=False)
    events = by(watching.end(), program)

    (start,) = [event for event in events if event["event_type"] == "process_exec"]
    (end,) = [event for event in events if event["event_type"] == "process_exit"]
    assert start["cmdline"] == f"{program} -c 'exit 42' 'two words' --password=***"
    assert start["ppid"] == os.getpid()
    assert (start["pid"], start["process"]) == (end["pid"], program.name)
    assert end["exit_code"] == 42
    assert b"hunter2" not in watching.out


def test_a_program_that_is_killed_is_told_with_the_signal(program: Path) -> None:
    """The code is the one that shells know."""
    watching = Watching(command="monitor")
    subprocess.run([program, "-c", "kill -9 $$"], check=False)
    events = by(watching.end(), program)

    (end,) = [event for event in events if event["event_type"] == "process_exit"]
    assert (end["exit_code"], end["signal"]) == (137, "SIGKILL")


def test_events_come_in_the_order_in_which_they_happened(program: Path, key: Path) -> None:
    """Each kind of event has a ring of its own, and readers see one story."""
    watching = Watching(command="monitor")
    for _ in range(20):
        subprocess.run([program, "-c", f": < {shlex.quote(str(key))}"], check=False)
    events = watching.end()

    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps)
    told = [event["event_type"] for event in by(events, program) if event["event_type"] != "lib_load"]
    assert told == ["process_exec", "file_open", "process_exit"] * 20


@pytest.mark.parametrize(
    ("command", "types"), [("files", {"file_open"}), ("libs", {"lib_load"})], ids=["files", "libs"]
)
def test_the_narrower_commands_show_one_kind_of_event(command: str, types: set[str], key: Path) -> None:
    """And attach no other."""
    watching = Watching("--verbose", command=command)
    open_with("cat", key)
    subprocess.run(["openssl", "version"], check=True, capture_output=True)
    events = watching.end()

    assert {event["event_type"] for event in events} == types
    attached = [line for line in watching.said if ": by libbpf CO-RE: " in line]
    assert [line.split(": ")[1] for line in attached] == sorted(types)


# -- filters -------------------------------------------------------------------------------------------------


def test_all_filters_must_match(tmp_path: Path, program: Path) -> None:
    """A name and a file: neither another's file nor this one's other file."""
    mine, other = tmp_path / "mine.pem", tmp_path / "mine.key"
    for path in (mine, other):
        path.touch()
    watching = Watching("--name", program.name[:6], "--file", "*mine.pem", command="monitor")
    subprocess.run([program, "-c", f": < {mine}; : < {other}"], check=False)
    open_with("cat", mine, other)
    events = watching.end()

    assert [(event["exe"], event["file"]) for event in events] == [(str(program), str(mine))]


def test_filters_are_about_true_names(key: Path) -> None:
    """What is printed as /home/USER is asked for as what it is."""
    for pattern, shown in ((f"/home/alice/{key.name}", 1), (f"/home/USER/{key.name}", 0)):
        watching = Watching("--file", pattern)
        open_with("cat", f"/home/alice/{key.name}")
        assert [event["file"] for event in watching.end()] == [f"/home/USER/{key.name}"] * shown


def test_a_number_is_one_process(key: Path, program: Path) -> None:
    """Not its children."""
    with subprocess.Popen([program], stdin=subprocess.PIPE) as shell:
        watching = Watching("--pid", str(shell.pid))
        shell.communicate(f": < {key}; cat {key}\n".encode())
    open_with("cat", key)
    events = watching.end()

    assert [(event["pid"], event["file"]) for event in events] == [(shell.pid, str(key))]


def test_with_its_children_it_is_all_that_it_starts(key: Path, program: Path) -> None:
    """Grandchildren too, those whose parent has ended among them; and nobody else."""
    with subprocess.Popen([program], stdin=subprocess.PIPE) as shell:
        watching = Watching("--pid", str(shell.pid), "--follow-children", command="monitor")
        shell.communicate(f"cat {key}; (sh -c 'head {key} & exit' &)\n".encode())
    open_with("tail", key)
    until(lambda: not [pid for pid in os.listdir("/proc") if is_running(pid, "head", key)])
    events = watching.end()

    assert [event["process"] for event in of(events, key)] == ["cat", "head"]


def is_running(pid: str, name: str, path: Path) -> bool:
    """Whether that process is such a program with such an argument."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(name) in words and os.fsencode(path) in words


def test_a_library_filter_attaches_what_can_match() -> None:
    """Opens, starts and ends have no library: they would cost the host and show nothing."""
    watching = Watching("--library", "libcrypto", "--verbose", command="monitor")
    subprocess.run(["openssl", "version"], check=True, capture_output=True)
    events = watching.end()

    assert {event["event_type"] for event in events} == {"lib_load"}
    assert all("libcrypto" in event["library"] for event in events)
    assert watching.said[0].startswith("fleet-agent: watching lib_load until")
    assert "fleet-agent: shown is what matches all of: --library libcrypto" in watching.said


def test_a_process_that_is_not_there_is_said() -> None:
    """Else somebody would wait for nothing; a stream has no end by itself."""
    watching = Watching("--pid", "4194304")
    assert watching.end() == []

    assert watching.said[1] == "fleet-agent: there is no process 4194304 at the moment"


# -- formats and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json-array", "json-pretty"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None])
def test_an_array_is_whole_however_it_ends(form: str, number: int | None, key: Path) -> None:
    """By a signal, or when its time is over."""
    words = ("--duration", "2") if number is None else ()
    watching = Watching("--format", form, "--file", str(key), *words)
    open_with("cat", key)
    open_with("head", key)
    events = json.loads(watching.finish(number))

    assert [event["process"] for event in events] == ["cat", "head"]
    assert watching.process.returncode == 0


def test_an_array_without_events_is_empty(key: Path) -> None:
    """Not nothing: whoever reads it reads JSON."""
    watching = Watching("--format", "json-array", "--file", str(key))

    assert json.loads(watching.finish()) == []


def test_a_summary_comes_at_the_end(key: Path) -> None:
    """Counts, for people."""
    watching = Watching("--format", "summary", "--file", str(key))
    open_with("cat", key)
    open_with("cat", key)

    assert watching.finish().decode().splitlines() == [
        "events: 2", "file_open: 2", "process cat: 2", f"file {key}: 2",
    ]  # fmt: skip


def test_each_event_is_readable_at_once(key: Path, tmp_path: Path) -> None:
    """In a file as in a pipe: nobody waits for a buffer to fill."""
    out = tmp_path / "events.json"
    watching = Watching("--output", out, "--file", str(key))
    open_with("cat", key)
    until(lambda: out.exists() and len(out.read_text().splitlines()) == 1)
    open_with("cat", key)
    until(lambda: len(out.read_text().splitlines()) == 2)
    watching.finish()

    assert watching.out == b""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_rotated_file_is_opened_anew_and_no_event_is_lost(tmp_path: Path) -> None:
    """By logrotate(8)'s steps: moved away, then a signal; what comes in between is in the old one."""
    out, key = tmp_path / "events.json", tmp_path / f"{uuid.uuid4()}.key"
    key.touch()
    watching = Watching("--output", out, "--file", str(key))
    rotated = []
    for number in range(3):
        for _ in range(10):
            open_with("cat", key)
        rotated.append(out.with_name(f"events.json.{number}"))
        out.rename(rotated[-1])
        watching.tell(signal.SIGHUP)
        until(out.exists)
    open_with("cat", key)
    watching.finish()

    each = [[json.loads(line) for line in path.read_text().splitlines()] for path in (*rotated, out)]
    assert sum(map(len, each)) == 31
    assert all(each[:3])
    assert "0 lost" in watching.said[-1]


def test_logrotate_itself_can_be_told_to(tmp_path: Path) -> None:
    """The tool that users have, with the configuration that they would write."""
    if shutil.which("logrotate") is None:
        pytest.skip("logrotate is not installed")
    out, key = tmp_path / "events.json", tmp_path / f"{uuid.uuid4()}.key"
    key.touch()
    watching = Watching("--output", out, "--file", str(key))
    open_with("cat", key)
    until(lambda: out.exists() and out.stat().st_size > 0)
    rules = tmp_path / "rules"
    rules.write_text(
        f"{out} {{\n rotate 3\n create 0640 root root\n"
        f" postrotate\n  kill -HUP {watching.process.pid}\n endscript\n}}\n"
    )
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        ["logrotate", "--force", "--state", tmp_path / "state", rules],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Until it has noticed the signal, events go to the old file, and none is lost.
    time.sleep(0.2)
    open_with("cat", key)
    watching.finish()

    assert len(Path(f"{out}.1").read_text().splitlines()) == 1
    assert len(out.read_text().splitlines()) == 1
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_by_the_old_name_a_file_is_begun_anew(tmp_path: Path, key: Path) -> None:
    """crypto-tracer emptied it, and its users' scripts index what is in it; by our name it is appended to."""
    link = tmp_path / "crypto-tracer"
    link.symlink_to(INSTALLED)
    out = tmp_path / "events.json"
    for _ in range(2):
        watching = Watching("--file", str(key), "--output", out, agent=(link,))
        open_with("cat", key)
        watching.finish()
        assert watching.said[0] == "crypto-tracer: watching file_open until Ctrl-C"
        assert len(out.read_text().splitlines()) == 1

    watching = Watching("--file", str(key), "--output", out)
    open_with("cat", key)
    watching.finish()
    assert len(out.read_text().splitlines()) == 2


def test_a_full_disk_ends_it_aloud(key: Path) -> None:
    """Exit code 1 and the reason: what is seen after this would be lost silently."""
    watching = Watching("--file", str(key), "--output", "/dev/full")
    open_with("cat", key)
    watching.finish(None)

    assert watching.process.returncode == errors.EXIT_FAILURE
    assert watching.said[-1] == "fleet-agent: cannot write /dev/full: no space left on device"


def test_a_file_that_cannot_be_written_is_said_before_anything_is_attached(tmp_path: Path) -> None:
    """Who waited for a day for nothing would be angry."""
    (tmp_path / "link").symlink_to(tmp_path / "aim")
    for path, code, words in (
        (tmp_path / "missing" / "x", errors.EXIT_FAILURE, "no such file or directory"),
        (tmp_path / "link", errors.EXIT_USAGE, "is a link; name the file itself"),
    ):
        done = run("monitor", "--output", path)
        assert (done.returncode, done.stdout) == (code, b"")
        assert words in said(done)[-1]
    assert not (tmp_path / "aim").exists()


# -- the end -------------------------------------------------------------------------------------------------


def test_a_reader_that_has_gone_ends_it_without_another_event(key: Path) -> None:
    """`| head -1` on a quiet host: the pipeline ends when head does."""
    pipeline = ("bash", "-c", 'set -o pipefail; "$@" | head -1', "bash")
    watching = Watching("--file", str(key), prefix=pipeline)
    open_with("cat", key)
    (event,) = watching.end(None)

    assert event["file"] == str(key)
    assert (watching.process.returncode, watching.said[1:]) == (0, [])


def test_a_time_that_is_over_ends_it(key: Path) -> None:
    """With the account of what was seen."""
    watching = Watching("--duration", "1", "--file", str(key))
    open_with("cat", key)
    events = watching.end(None)

    assert len(of(events, key)) == 1
    assert watching.process.returncode == 0
    assert watching.said[0] == "fleet-agent: watching file_open for 1 s"
    assert "file_open: " in watching.said[-1]


def test_quiet_says_nothing(key: Path) -> None:
    """Standard error is for errors then."""
    done = run("files", "--duration", "1", "--quiet", "--file", str(key))
    if done.returncode in (errors.EXIT_KERNEL, errors.EXIT_ATTACH):
        pytest.skip(done.stderr.decode())

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_who_is_kept_waiting_by_a_reader_may_end_it_by_a_second_ctrl_c(key: Path) -> None:
    """The first asks for an end in good order, which a reader that does not read puts off for ever."""
    watching = Watching("--file", str(key))
    open_many(key, 1000)
    until(lambda: waits_in_a_pipe(watching.process.pid))
    watching.tell(signal.SIGINT)
    time.sleep(1.5)
    assert watching.process.poll() is None
    watching.tell(signal.SIGINT)

    try:
        assert watching.process.wait(60) == 130
    finally:
        watching.process.kill()
    watching.finish(None)
    assert watching.said[1:] == ["fleet-agent: stopped"]


def waits_in_a_pipe(pid: int) -> bool:
    """Whether it writes to one that is full: write(2) is call 1 on x86_64, 64 on aarch64."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[:2] in (["1", "0x1"], ["64", "0x1"])


def open_many(path: Path, times: int) -> None:
    """One process opens it so often, as fast as it can."""
    code = "import os, sys\nfor _ in range(int(sys.argv[2])): os.close(os.open(sys.argv[1], 0))"
    subprocess.run([sys.executable, "-c", code, path, str(times)], check=True)


def test_what_is_lost_is_counted_to_the_last_event(key: Path) -> None:
    """A watch that gets no time to look loses what its ring cannot hold; that is said, and is exit code 6."""
    watching = Watching("--strict", "--file", str(key), stdout=subprocess.DEVNULL)
    watching.tell(signal.SIGSTOP)
    open_many(key, 60_000)
    watching.tell(signal.SIGCONT)
    watching.finish()

    assert watching.process.returncode == errors.EXIT_PARTIAL
    account = re.search(r"file_open: (\d+) shown of \d+, (\d+) lost", watching.said[-1])
    assert account is not None
    shown, lost = map(int, account.groups())
    assert lost > 0
    # Others on this machine may have lost some too.
    assert shown < 60_000 <= shown + lost


def test_who_ignores_the_end_of_a_terminal_is_left_at_work(key: Path) -> None:
    """nohup(1)."""
    watching = Watching("--file", str(key), prefix=("sh", "-c", "trap '' HUP; exec \"$@\"", "sh"))
    watching.tell(signal.SIGHUP)
    open_with("cat", key)
    time.sleep(0.2)

    assert len(watching.end()) == 1


def test_two_watch_at_once_and_see_the_same(tmp_path: Path) -> None:
    """Each sees the other look at the file, to tell what it is, and is not made to look again by that."""
    made = openssl.make(tmp_path, "/CN=web")
    certificate = tmp_path / f"{uuid.uuid4()}.pem"
    certificate.write_bytes(made.certificate)
    watching = [Watching("--file", str(certificate)) for _ in range(2)]
    for _ in range(50):
        open_with("cat", certificate)
    # Long enough for them to answer one another a hundred times, if they did.
    time.sleep(2)
    seen = [of(each.end(), certificate) for each in watching]

    for events in seen:
        cats = [event for event in events if event["process"] == "cat"]
        assert len(cats) == 50
        assert {event["file_type"] for event in cats} == {"certificate"}
        assert len(events) - len(cats) <= 2


def test_strict_is_satisfied_where_nothing_was_lost(key: Path) -> None:
    """And only there: what is refused or lost is exit code 6."""
    watching = Watching("--strict", "--file", str(key))
    watching.finish()
    assert watching.process.returncode == 0

    done = run("monitor", "--strict", "--duration", "1", agent=(sys.executable, "-c", ATTACHES_LITTLE))
    if done.returncode in (errors.EXIT_KERNEL, errors.EXIT_ATTACH):
        pytest.skip(done.stderr.decode())
    assert done.returncode == errors.EXIT_PARTIAL
    assert said(done)[0] == "fleet-agent: watching file_open, lib_load, process_exec for 1 s"
    assert said(done)[1].startswith("fleet-agent: process_exit is not watched: ")


def test_a_load_that_nothing_is_known_of_is_told_and_is_partial(tmp_path: Path) -> None:
    """Under a name of its own it may be of cryptography: silence would say that it is not."""
    # Given a library that is gone, with its process, before anybody can look
    plugin = tmp_path / "plugin.bin"
    shutil.copy(_ctypes.__file__, plugin)
    watching = Watching("--strict", "--library", plugin.name, command="libs")
    watching.tell(signal.SIGSTOP)
    subprocess.run([sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", plugin], check=True)
    plugin.unlink()
    watching.tell(signal.SIGCONT)
    # When the watch ends
    assert watching.end() == []
    # Then its account says so, and it is not complete
    assert "; 1 load not recognised: the file had gone; " in watching.said[-1]
    assert watching.process.returncode == errors.EXIT_PARTIAL


# A kernel that takes all programs but one.
ATTACHES_LITTLE = """
import sys
from agent import cli
from agent.kernel.libbpf import BpfError
from agent.kernel.object import BpfObject
real = BpfObject.attach
def attach(self, program):
    if program.startswith("process_exit"):
        raise BpfError("attach", self.name, program, 95, "")
    real(self, program)
BpfObject.attach = attach
sys.exit(cli.main(sys.argv[1:]))
"""
