# SPDX-License-Identifier: Apache-2.0
"""The switch, the lock, and the last place in every queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import errors
from agent.guard import guest, lock, syscalls

# A run that has the lock until its input ends. What it reads is a place of the test's.
HOLDS = """
import sys
from agent.guard import guest, lock
lock.ROOT_DIRECTORY, guest.KILL_SWITCH = sys.argv[2:4]
with guest.admit(exclusive=True, wait_s=float(sys.argv[4]), tell=print):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Switch and lock of the test's own."""
    monkeypatch.setattr(guest, "KILL_SWITCH", str(tmp_path / "disabled"))
    monkeypatch.setattr(lock, "ROOT_DIRECTORY", str(tmp_path / "run" / "agent"))
    monkeypatch.delenv(lock.DIRECTORY_ENV, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    for name in ("run", "user"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


@contextmanager
def another(wait_s: float = 10) -> Iterator[subprocess.Popen[str]]:
    """Another run that has the lock."""
    words = [sys.executable, "-c", HOLDS, "snapshot", lock.ROOT_DIRECTORY, guest.KILL_SWITCH, str(wait_s)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "holds\n"
        try:
            yield run
        finally:
            run.kill()


def lock_file(places: Path) -> Path:
    """Where it is for this user."""
    return places / "run/agent/lock" if os.geteuid() == 0 else places / "user/cryptofleet-agent.lock"


# -- the switch


def test_a_switched_off_agent_looks_at_nothing_and_says_why(places: Path) -> None:
    """The operator's words come with the refusal; a screen is not at their mercy."""
    (places / "disabled").write_text("incident 4711, call \x1b[31mops\nnot this line")

    for is_exclusive in (True, False):
        with (
            pytest.raises(errors.DisabledError, match=r"incident 4711, call \\u001b\[31mops;") as refused,
            guest.admit(exclusive=is_exclusive),
        ):
            pytest.fail("it was admitted")
        assert refused.value.exit_code == errors.EXIT_FAILURE
        assert "not this line" not in str(refused.value)
    assert not lock_file(places).exists()


def test_any_thing_of_that_name_is_the_switch(places: Path) -> None:
    """Whoever is in a hurry makes a directory, a link to nowhere or a FIFO of it; none may be waited for."""
    switch = places / "disabled"
    switch.mkdir()
    assert guest.switched_off() == "no reason given"
    switch.rmdir()
    switch.symlink_to("/nonexistent")
    assert guest.switched_off() == "no reason given"
    switch.unlink()
    os.mkfifo(switch)
    assert guest.switched_off() == "no reason given"
    switch.unlink()
    switch.write_bytes(b"\xff\n")
    assert guest.switched_off() == "\N{REPLACEMENT CHARACTER}"
    switch.write_text("")
    assert guest.switched_off() == "no reason given"
    switch.unlink()
    assert guest.switched_off() is None


def test_a_switch_that_cannot_be_looked_up_is_on(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In doubt the host is left alone: here the way to it goes round in circles."""
    (places / "loop").symlink_to("loop")
    monkeypatch.setattr(guest, "KILL_SWITCH", str(places / "loop/disabled"))

    assert "too many levels of symbolic links" in (guest.switched_off() or "")


# -- the lock


def test_two_scans_do_not_run_at_once_and_the_second_names_the_first(places: Path) -> None:
    """Pid and subcommand are enough to find out whether to wait for it."""
    told: list[str] = []
    with another() as run:
        who = f"fleet-agent snapshot, pid {run.pid}"
        assert str(lock.holder()) == who
        with (
            pytest.raises(errors.BusyError, match=f"another run .{who}. is at work"),
            guest.admit(exclusive=True, wait_s=0, tell=told.append),
        ):
            pytest.fail("it was admitted")
        # And what is no scan runs beside it
        with guest.admit(exclusive=False, wait_s=0, tell=told.append):
            pass
    assert told == []


def test_who_waits_is_told_for_whom_and_goes_on_when_that_one_ends(places: Path) -> None:
    """A round of the service takes seconds; a person at a terminal should not see nothing."""
    with another() as first:

        def hear(words: str) -> None:
            told.append(words)
            assert first.stdin is not None
            first.stdin.close()

        told: list[str] = []
        with guest.admit(exclusive=True, wait_s=60, tell=hear):
            pass
    assert told == [f"waiting for another run (fleet-agent snapshot, pid {first.pid}) to end"]


def test_the_lock_of_a_killed_run_is_free(places: Path) -> None:
    """Nothing may need cleaning up by hand, and no child of it keeps the lock."""
    with another() as run:
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert lock.holder() is None
        with another(0):
            pass


def test_a_child_of_the_holder_neither_keeps_nor_frees_it(places: Path) -> None:
    """The parser of hostile files is such a child."""
    with guest.admit(exclusive=True):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            # It gives back whatever it may have, and then stays.
            os.closerange(3, reading)
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        with pytest.raises(subprocess.CalledProcessError):
            take_elsewhere()
    # The child is alive and has no lock
    take_elsewhere()
    os.close(writing)
    os.waitpid(child, 0)


def take_elsewhere() -> None:
    """Take and give the lock in another process, without waiting."""
    words = [sys.executable, "-c", HOLDS, "run", lock.ROOT_DIRECTORY, guest.KILL_SWITCH, "0"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def test_a_lock_whose_file_was_taken_away_is_taken_anew(places: Path) -> None:
    """Whoever cleans up /run gets no more than what he asked for: those who begin later agree again."""
    with guest.admit(exclusive=True):
        lock_file(places).unlink()
    with another(), pytest.raises(errors.BusyError), guest.admit(exclusive=True, wait_s=0):
        pytest.fail("it was admitted")


def test_nobody_else_can_even_open_it(places: Path) -> None:
    """On a file that others can read, any user can hold a lock for ever."""
    with guest.admit(exclusive=True):
        assert lock_file(places).stat().st_mode & 0o077 == 0
        assert lock_file(places).parent.stat().st_mode & 0o077 == 0


@pytest.mark.root
@pytest.mark.parametrize("how", ["open to others", "another user's", "a link", "a file"])
def test_where_others_could_hold_it_there_is_no_lock_and_that_is_said(places: Path, how: str) -> None:
    """Then the scan goes on: a host that is not looked at is the worse of the two."""
    directory = places / "run/agent"
    if how == "a link":
        directory.symlink_to(places / "user")
    elif how == "a file":
        directory.write_text("")
    else:
        directory.mkdir(mode=0o755 if how == "open to others" else 0o700)
    if how == "another user's":
        os.chown(directory, 65534, 65534)
    told: list[str] = []

    with guest.admit(exclusive=True, tell=told.append):
        pass

    assert len(told) == 1
    assert told[0].startswith(f"there is no lock, so two runs may look at this host at once: {directory}: ")


@pytest.mark.root
def test_a_read_only_run_directory_is_said_and_the_scan_goes_on(places: Path) -> None:
    """As in a container without a writable /run."""
    words = [sys.executable, "-c", HOLDS, "run", lock.ROOT_DIRECTORY, guest.KILL_SWITCH, "0"]
    script = f"mount --bind {places / 'run'} {places / 'run'} && mount -o remount,bind,ro {places / 'run'}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh", *words],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(done.stderr.strip())

    assert done.stdout.splitlines()[-1] == "holds", done.stderr
    assert "there is no lock" in done.stdout
    assert "read-only file system" in done.stdout


def test_another_place_for_the_lock_can_be_named(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /run cannot be written to. It has to be as private, and then is no one else's lock."""
    with another():
        monkeypatch.setenv(lock.DIRECTORY_ENV, str(places / "own"))
        with guest.admit(exclusive=True, wait_s=0):
            assert (places / "own").stat().st_mode & 0o077 == 0
            assert (places / "own/lock").exists()


def test_what_is_in_the_file_decides_nothing(places: Path) -> None:
    """The kernel says who holds it; the file only how it is called, and that can be anything."""
    with guest.admit(exclusive=True):
        pass
    lock_file(places).write_bytes(b"\x1b[2J\xff" * 1000)
    assert lock.holder() is None
    with guest.admit(exclusive=True, wait_s=0):
        pass


# -- the last place in every queue


def test_a_scan_takes_what_others_leave_and_steps_forward_again(places: Path) -> None:
    """CPU by nice and SCHED_BATCH; the disk follows, as another tool's reading of it says."""
    before = (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))
    with guest.admit(exclusive=True):
        assert os.getpriority(os.PRIO_PROCESS, 0) == 19
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        if shutil.which("ionice"):
            place = subprocess.run(
                ["ionice", "-p", str(os.getpid())], check=True, capture_output=True, text=True
            )
            # Kernels before 5.18 say `none` for what follows the CPU.
            assert place.stdout.strip() in ("best-effort: prio 7", "none: prio 0")
    if os.geteuid() == 0:
        assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before


def test_what_waits_for_events_keeps_its_place(places: Path) -> None:
    """It would lose them."""
    before = (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))
    with guest.admit(exclusive=False):
        assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before


def test_in_the_background_the_disk_is_asked_last(places: Path) -> None:
    """As ionice(1) reads it, which is not ours."""
    if shutil.which("ionice") is None:
        pytest.skip("ionice is not installed")
    child = os.fork()
    if child == 0:
        is_set = syscalls.set_io_idle()
        done = subprocess.run(["ionice", "-p", str(os.getpid())], check=False, capture_output=True, text=True)
        os._exit(0 if is_set and done.stdout == "idle\n" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
