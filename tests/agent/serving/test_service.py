# SPDX-License-Identifier: Apache-2.0
"""The loop that is resident, with rounds that do what they like; tests/agent/packaging has real ones."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import errors

# A service whose configuration file is what its rounds do, each line one round, the last again and again.
SERVICE = """
import ctypes, faulthandler, os, signal, sys, time
from pathlib import Path
from agent import config
from agent.guard import guest
from agent.serving import schedule, service
from agent.serving.schedule import Report
from agent.serving.systemd import Notifier

place, switch, round_s_max, interval_s = sys.argv[1:5]
guest.KILL_SWITCH = switch
service._TICK_S = service._TICK_AT_WORK_S = 0.2
schedule.BUSY_S = schedule.RESCAN_S = schedule.SWITCHED_ON_SPLAY_S = 0.1
count = Path(place + ".count")

def tell(words):
    print(words, file=sys.stderr, flush=True)

def read():
    try:
        return config.Page(place, Path(place).read_bytes())
    except OSError as error:
        raise config.errors.ConfigError("no page") from error

def check(page):
    word = page.data.decode().split("\\n")[0]
    if word == "hang":
        time.sleep(3600)
    if word == "bad":
        return Report(kind="failed", words="a bad page", exit_code=4)
    return Report(kind="ready", interval_s=int(interval_s), round_s_max=int(round_s_max))

def attempt(page):
    lines = page.data.decode().split()
    number = int(count.read_text()) if count.exists() else 0
    count.write_text(str(number + 1))
    word = lines[min(number, len(lines) - 1)]
    tell(f"round {word} {os.getpid()}")
    if word == "sleep" or word == "cling":
        if word == "cling":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif word == "save":
        def save(*_):
            Path(place + ".saved").write_text("saved")
            os._exit(0)
        signal.signal(signal.SIGTERM, save)
        time.sleep(3600)
    elif word == "fault":
        faulthandler.disable()
        ctypes.string_at(8)
    elif word == "exit":
        sys.exit(9)
    elif word == "bug":
        raise ZeroDivisionError("a secret")
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "away":
        return Report(kind="unreachable", words="nobody there")
    elif word == "gone":
        return Report(kind="gone")
    elif word == "long":
        return Report(kind="done", words="x" * 1_000_000, is_rescan=True)
    return Report(kind="done", words=f"did {word}", is_rescan=True)

work = service.Work(page=read(), read=read, check=check, attempt=attempt, tell=tell)
sys.exit(service.Service(work, Notifier()).serve())
"""


class Running:
    """A service at work, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], place: Path, notified: socket.socket) -> None:
        self.process = process
        self.place = place
        self.switch = place.with_name("disabled")
        self._notified = notified
        self._heard = b""
        self.said: list[str] = []

    def hear(self, words: str) -> str:
        """The next line with these words in it; those before are passed over, and kept in `said`."""
        while True:
            line = self._line(words)
            self.said.append(line)
            if words in line:
                return line

    def _line(self, words: str) -> str:
        assert self.process.stderr is not None
        while b"\n" not in self._heard:
            assert select.select([self.process.stderr], [], [], 60)[0], f"not said: {words}: {self.said}"
            more = os.read(self.process.stderr.fileno(), 1 << 20)
            assert more, f"it ended before it said {words}: {self.said}"
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def told(self, words: str) -> str:
        """The next that systemd is told with these words in it."""
        while True:
            word = self._notified.recv(65536).decode()
            if words in word:
                return word

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Tell it to end; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def service(tmp_path: Path, *rounds: str, round_s_max: int = 60, interval_s: int = 3600) -> Iterator[Running]:
    """A service that does these rounds."""
    place, notify = tmp_path / "page", tmp_path / "notify"
    place.write_text("\n".join(rounds))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(notify))
        notified.settimeout(60)
        words = [sys.executable, "-c", SERVICE, place, tmp_path / "disabled", round_s_max, interval_s]
        with subprocess.Popen(
            list(map(str, words)),
            stderr=subprocess.PIPE,
            env=os.environ | {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "1000000"},
        ) as process:
            try:
                yield Running(process, place, notified)
            finally:
                process.kill()


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waiting for it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


def pid_of(line: str) -> int:
    """Of `round WORD PID`."""
    return int(line.rpartition(" ")[2])


def test_each_round_is_a_process_that_has_gone_when_the_next_begins(tmp_path: Path) -> None:
    """What a round imports and holds costs nothing afterwards."""
    with service(tmp_path, "one", "two", "three") as running:
        first = pid_of(running.hear("round one"))
        assert running.hear("did") == "did one"
        second = pid_of(running.hear("round two"))
        assert len({first, second, running.process.pid}) == 3
        assert is_gone(first)
        assert running.end() == errors.EXIT_COMPLETE
        running.hear("stopped")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("fault", "a round was killed by SIGSEGV"),
        ("exit", "a round ended with exit status 70"),
        ("bug", "a round ended with exit status 70"),
    ],
)
def test_a_round_that_breaks_is_told_and_the_service_goes_on(tmp_path: Path, word: str, told: str) -> None:
    """Also where the mistake is ours. What the error says stays unsaid: it may quote a file."""
    with service(tmp_path, word, "fine", interval_s=1) as running:
        running.hear(told)
        running.hear("did fine")
        assert running.end() == errors.EXIT_COMPLETE
    if word == "bug":
        assert any("bug in the agent: ZeroDivisionError at " in line for line in running.said)
    assert "secret" not in "".join(running.said)


@pytest.mark.parametrize("word", ["sleep", "cling", "stop"])
def test_a_round_that_does_not_end_is_ended(tmp_path: Path, word: str) -> None:
    """First it is told, then it is killed."""
    with service(tmp_path, word, "fine", round_s_max=1, interval_s=1) as running:
        hanging = pid_of(running.hear(f"round {word}"))
        running.hear("a round did not end within 1 s, and was ended")
        assert is_gone(hanging)
        running.hear("did fine")
        assert running.end() == errors.EXIT_COMPLETE


@pytest.mark.parametrize("word", ["sleep", "cling", "stop"])
def test_when_the_service_ends_its_round_ends_too(tmp_path: Path, word: str) -> None:
    """Whatever the round does about it."""
    with service(tmp_path, word) as running:
        child = pid_of(running.hear(f"round {word}"))
        assert running.end() == errors.EXIT_COMPLETE
        assert is_gone(child)


def test_a_round_that_is_told_to_end_may_keep_what_it_has_seen(tmp_path: Path) -> None:
    """A window over the kernel does."""
    with service(tmp_path, "save") as running:
        running.hear("round save")
        # The round says so before it listens
        time.sleep(0.5)
        assert running.end() == errors.EXIT_COMPLETE
    assert (tmp_path / "page.saved").read_text() == "saved"


def test_when_the_service_is_killed_its_round_dies(tmp_path: Path) -> None:
    """Nobody would end it in its time."""
    with service(tmp_path, "cling") as running:
        child = pid_of(running.hear("round cling"))
        running.process.kill()
        assert is_gone(child)


def test_ctrl_c_ends_it_as_a_signal_of_systemd_does(tmp_path: Path) -> None:
    """The round hears nothing of it: it has its own group, and is told by the service."""
    with service(tmp_path, "sleep") as running:
        child = pid_of(running.hear("round sleep"))
        assert os.getpgid(child) == child
        running.signal(signal.SIGINT)
        assert running.process.wait(60) == errors.EXIT_COMPLETE
        running.hear("stopped")


# -- the configuration


def test_a_service_that_cannot_begin_says_why_and_ends(tmp_path: Path) -> None:
    """With the exit code of the reason."""
    with service(tmp_path, "bad") as running:
        assert running.process.wait(60) == 4
        running.hear("a bad page")
    assert not (tmp_path / "page.count").exists()


def test_a_new_configuration_is_used_from_the_next_round_on(tmp_path: Path) -> None:
    """And systemd is told when it begins and when it is done."""
    with service(tmp_path, "old") as running:
        assert running.told("READY") == "READY=1"
        running.hear("did old")
        running.place.write_text("new")
        running.signal(signal.SIGHUP)
        assert "RELOADING=1\nMONOTONIC_USEC=" in running.told("RELOADING")
        assert running.told("READY") == "READY=1"
        running.hear("the configuration was read anew")
        running.hear("did new")


@pytest.mark.parametrize("how", ["bad", "missing"])
def test_a_bad_one_is_told_and_the_old_one_is_used_on(tmp_path: Path, how: str) -> None:
    """Nobody wants to find out at the next audit that a typing error ended the watch."""
    with service(tmp_path, "old") as running:
        running.hear("did old")
        if how == "bad":
            running.place.write_text("bad")
        else:
            running.place.unlink()
        running.told("READY")
        running.signal(signal.SIGHUP)
        running.told("RELOADING")
        running.told("READY")
        running.hear("the new configuration is not used, and the old one is: ")
        running.hear("did old")
        assert running.end() == errors.EXIT_COMPLETE


def test_one_that_is_read_for_ever_keeps_no_round_and_no_end_waiting(tmp_path: Path) -> None:
    """It may stand on a disk that hangs."""
    with service(tmp_path, "old") as running:
        running.hear("did old")
        running.place.write_text("hang")
        running.signal(signal.SIGHUP)
        running.told("RELOADING")
        running.hear("did old")
        running.hear("did old")
        assert running.end() == errors.EXIT_COMPLETE


def test_many_signals_are_one_change(tmp_path: Path) -> None:
    """Tools that deploy send one for each file that they wrote; the last page counts."""
    with service(tmp_path, "old") as running:
        running.hear("did old")
        for number in range(50):
            running.place.write_text(f"new{number}")
            running.signal(signal.SIGHUP)
        running.hear("did new49")
        assert running.end() == errors.EXIT_COMPLETE


# -- the switch


def test_switched_off_it_does_nothing_and_says_so_once(tmp_path: Path) -> None:
    """Until it is switched on again."""
    with service(tmp_path, "one") as running:
        running.hear("did one")
        running.switch.write_text("incident 4711")
        running.hear("incident 4711; no rounds until it is removed")
        running.told("STATUS=switched off by ")
        rounds = (tmp_path / "page.count").read_text()
        time.sleep(1)
        assert (tmp_path / "page.count").read_text() == rounds
        running.switch.unlink()
        running.hear("switched on again")
        running.hear("did one")
        assert running.end() == errors.EXIT_COMPLETE
    assert len([line for line in running.said if "4711" in line]) == 1


def test_a_round_at_work_is_ended_by_the_switch(tmp_path: Path) -> None:
    """Whoever uses it is in a hurry."""
    with service(tmp_path, "sleep", "fine") as running:
        child = pid_of(running.hear("round sleep"))
        running.switch.write_text("")
        running.hear("a round was ended, because the agent was switched off")
        assert is_gone(child)
        assert running.end() == errors.EXIT_COMPLETE


# -- what is told


def test_the_watchdog_is_fed_also_while_a_round_hangs(tmp_path: Path) -> None:
    """What it watches is the loop, which ends such a round itself."""
    with service(tmp_path, "sleep") as running:
        running.hear("round sleep")
        for _ in range(3):
            assert running.told("WATCHDOG") == "WATCHDOG=1"
        assert running.end() == errors.EXIT_COMPLETE
        running.told("STOPPING=1")


def test_the_status_tells_how_the_last_round_went_and_when_the_next_is(tmp_path: Path) -> None:
    """For `systemctl status`."""
    with service(tmp_path, "away") as running:
        running.told("STATUS=a round is at work; no round yet")
        status = running.told("STATUS=next round at ")
        assert "UTC; last round ended at " in status
        assert "nobody there; next try in " in status
        running.hear("nobody there; next try in ")


def test_a_report_of_any_length_arrives(tmp_path: Path) -> None:
    """A server's words may be long; a pipe holds 64 KiB."""
    with service(tmp_path, "long", "fine") as running:
        running.hear("xxx")
        running.hear("did fine")


def test_a_reader_of_standard_output_that_has_gone_ends_the_service(tmp_path: Path) -> None:
    """Nobody is left whom it could tell."""
    with service(tmp_path, "gone") as running:
        assert running.process.wait(60) == errors.EXIT_FAILURE


def test_what_is_resident_has_imported_nothing_of_a_round() -> None:
    """Whatever it imports, a host keeps in memory for years."""
    heavy = (
        "httpx",
        "ssl",
        "cryptography",
        "agent.serving.rounds",
        "agent.document",
        "agent.scanners.processes",
    )
    code = (
        "import sys; from agent import cli; from agent.serving import service, systemd\n"
        "cli.build_parser(['run'])\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
