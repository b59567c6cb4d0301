# SPDX-License-Identifier: Apache-2.0
"""The agent's directory: nobody else reaches into it, and what was written is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.state import QUARANTINE_MAX, StateDirectory

NOBODY = 65534


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """A directory that was not there before."""
    with StateDirectory(str(tmp_path / "var" / "agent")) as found:
        yield found


def test_what_was_written_is_read_back_and_is_nobody_elses(state: StateDirectory) -> None:
    """Mode 0600 in a directory of 0700, whatever the umask would have allowed."""
    before = os.umask(0)
    try:
        state.write("counter", b"one")
        state.write("counter", b"two")
    finally:
        os.umask(before)

    assert state.read("counter", 10) == b"two"
    assert os.stat(f"{state.path}/counter").st_mode & 0o777 == 0o600
    assert os.stat(state.path).st_mode & 0o777 == 0o700
    assert os.listdir(state.path) == ["counter"]


def test_what_is_not_there_is_none_and_can_be_removed(state: StateDirectory) -> None:
    """A first start is no error."""
    assert state.read("spool", 10) is None
    state.remove("spool")


def test_a_file_larger_than_ours_ever_are_is_refused(state: StateDirectory) -> None:
    """It is not read into memory first."""
    state.write("spool", b"12345")

    assert state.read("spool", 5) == b"12345"
    with pytest.raises(errors.StateError, match="more than 4 bytes"):
        state.read("spool", 4)


def test_a_link_in_place_of_a_file_is_not_followed(state: StateDirectory, tmp_path: Path) -> None:
    """Or who plants it chooses what the agent reads."""
    (tmp_path / "theirs").write_text("theirs")
    os.symlink(tmp_path / "theirs", f"{state.path}/spool")

    with pytest.raises(errors.StateError, match="it is a link"):
        state.read("spool", 100)


def test_a_link_in_the_way_of_a_write_is_replaced_and_not_written_through(
    state: StateDirectory, tmp_path: Path
) -> None:
    """Both under the file's name and under the name it is first written to."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    for name in ("spool", ".spool.new"):
        os.symlink(theirs, f"{state.path}/{name}")

    state.write("spool", b"ours")

    assert theirs.read_text() == "theirs"
    assert state.read("spool", 100) == b"ours"
    assert not os.path.lexists(f"{state.path}/.spool.new")


def test_a_directory_or_fifo_in_place_of_a_file_is_refused_and_never_waited_for(
    state: StateDirectory,
) -> None:
    """A FIFO without a writer would hold the agent for ever."""
    os.mkdir(f"{state.path}/spool")
    os.mkfifo(f"{state.path}/counter", 0o600)

    for name in ("spool", "counter"):
        with pytest.raises(errors.StateError, match="is not a file"):
            state.read(name, 100)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_open_to_others_is_refused(state: StateDirectory, mode: int) -> None:
    """A key that others could read has to be thought lost; a state that they could write is not ours."""
    state.write("host.key", b"x")
    os.chmod(f"{state.path}/host.key", mode)

    with pytest.raises(errors.StateError, match="Others may have read or written it"):
        state.read("host.key", 100)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Sticky or not: they could put files there before us."""
    path = tmp_path / "agent"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(errors.StateError, match="others can write to it"):
        StateDirectory(str(path))


@pytest.mark.parametrize(("mode", "taken"), [(0o777, False), (0o775, False), (0o1777, True), (0o755, True)])
def test_a_directory_above_that_others_can_write_to_is_refused_unless_sticky(
    tmp_path: Path, mode: int, taken: bool
) -> None:
    """They could move ours away and put theirs in its place; not so in /tmp."""
    above = tmp_path / "above"
    (above / "agent").mkdir(parents=True, mode=0o700)
    above.chmod(mode)

    if taken:
        StateDirectory(str(above / "agent")).close()
    else:
        with pytest.raises(errors.StateError, match="open to others"):
            StateDirectory(str(above / "agent"))


def test_the_directory_itself_must_not_be_a_link(tmp_path: Path) -> None:
    """Its target is named by whoever can change the link."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "agent").symlink_to("real")

    with pytest.raises(errors.StateError, match="a link or a file"):
        StateDirectory(str(tmp_path / "agent"))


def test_a_link_of_our_own_above_the_directory_is_followed(tmp_path: Path) -> None:
    """Administrators move /var/lib to other disks."""
    (tmp_path / "real").mkdir()
    (tmp_path / "var").symlink_to("real")

    with StateDirectory(str(tmp_path / "var" / "agent")) as state:
        assert state.path == f"{tmp_path.resolve()}/real/agent"


@pytest.mark.root
def test_a_link_of_somebody_else_above_the_directory_is_refused(tmp_path: Path) -> None:
    """Also one whose target is harmless now."""
    (tmp_path / "real").mkdir()
    (tmp_path / "var").symlink_to("real")
    os.lchown(tmp_path / "var", NOBODY, NOBODY)

    with pytest.raises(errors.StateError, match=f"a link of uid {NOBODY}"):
        StateDirectory(str(tmp_path / "var" / "agent"))


@pytest.mark.root
def test_a_directory_or_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Root can read them, and must not believe them."""
    path = tmp_path / "agent"
    with StateDirectory(str(path)) as state:
        state.write("spool", b"x")
        os.chown(path / "spool", NOBODY, NOBODY)
        with pytest.raises(errors.StateError, match=f"uid {NOBODY}"):
            state.read("spool", 100)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(errors.StateError, match="run the agent as its owner"):
        StateDirectory(str(path))


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """As the kernel's own look-up does."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(errors.StateError, match="name the real place"):
        StateDirectory(str(tmp_path / "a" / "agent"))


def test_quarantine_keeps_the_first_few_and_then_the_latest(state: StateDirectory) -> None:
    """A disk that damages a file every hour must not fill itself."""
    for number in range(QUARANTINE_MAX + 3):
        state.write("spool", b"%d" % number)
        state.set_aside("spool")

    kept = sorted(Path(state.path, "quarantine").iterdir())
    assert [file.read_bytes() for file in kept] == [b"0", b"1", b"2", b"6"]
    assert state.read("spool", 10) is None


def test_two_processes_exclude_each_other(state: StateDirectory) -> None:
    """What one reads and writes under the lock, no other changes in between: 4 x 50 increments are 200."""
    script = (
        "import sys; from agent.state import StateDirectory\n"
        "with StateDirectory(sys.argv[1]) as state:\n"
        "    for _ in range(50):\n"
        "        with state.locked():\n"
        "            n = int(state.read('counter', 99) or 0); state.write('counter', b'%d' % (n + 1))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, state.path]) for _ in range(4)]

    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    assert state.read("counter", 99) == b"200"


def test_a_lock_held_for_ever_is_told_and_not_waited_for(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process must not stop this one."""
    monkeypatch.setattr("agent.state._LOCK_WAIT_S", 0.0)

    with (
        StateDirectory(state.path) as other,
        other.locked(),
        pytest.raises(errors.StateError, match="another process has held the lock"),
        state.locked(),
    ):
        pytest.fail("both hold it")


def test_the_lock_may_be_nested(state: StateDirectory) -> None:
    """And is given back by the outermost only."""
    with StateDirectory(state.path) as other, state.locked():
        with state.locked():
            pass
        other_state = other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.state._LOCK_WAIT_S", 0.0)
            with pytest.raises(errors.StateError), other_state.locked():
                pytest.fail("both hold it")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", place], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_keeps_the_old_file_and_says_so(small_disk: Path) -> None:
    """Nothing of the attempt stays behind to fill the disk for good."""
    with StateDirectory(str(small_disk / "agent")) as state:
        state.write("spool", b"old")
        with pytest.raises(errors.StateError, match="no space left on device; free some space"):
            state.write("spool", bytes(100_000))

        assert state.read("spool", 10) == b"old"
        assert os.listdir(state.path) == ["spool"]
        state.write("spool", bytes(30_000))


@pytest.mark.root
def test_a_read_only_disk_keeps_the_old_file_and_says_so(small_disk: Path) -> None:
    """Reading still works; writing, removing and setting aside are refused in words."""
    StateDirectory(str(small_disk / "agent")).close()
    with StateDirectory(str(small_disk / "agent")) as state:
        state.write("spool", b"old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with StateDirectory(str(small_disk / "agent")) as state:
        with pytest.raises(errors.StateError, match=r"cannot write .*read-only file system; mount it"):
            state.write("spool", b"new")
        with pytest.raises(errors.StateError, match=r"cannot remove .*read-only"):
            state.remove("spool")
        with pytest.raises(errors.StateError, match="read-only"):
            state.set_aside("spool")
        assert state.read("spool", 10) == b"old"


@pytest.mark.root
def test_an_ordinary_user_without_the_directory_is_told_what_to_do(tmp_path: Path) -> None:
    """The first thing that people who try it out run into."""
    script = (
        "import os, sys; from agent import errors; from agent.state import StateDirectory\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: StateDirectory(sys.argv[1])\n"
        "except errors.StateError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, "/var/lib/cryptofleet-test/agent"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == (
        "cannot use the state directory under /var/lib/cryptofleet-test: permission denied; run as root, or"
        " name another place with --state-dir\n"
    )
