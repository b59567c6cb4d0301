# SPDX-License-Identifier: Apache-2.0
"""Files of events, looked up where their processes see them: links, namespaces, what must not be opened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from agent import errors
from agent.guard.parsing import Function, InProcess, Opened, T
from agent.host import Host
from agent.kernel.probes.file_open import FileOpen
from agent.model import canonical
from agent.printing.classify import CACHE_MAX, LOOKS_PER_S, FileTypes
from agent.procfs.stat import parse_stat
from agent.readers.file_kind import FileKind
from tests.agent import openssl

KEY = FileKind(file_type="private_key", kind="pkcs8")
UNKNOWN = FileKind(file_type="unknown")


class Counting(InProcess):
    """A parser that counts what it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        self.asked += len(files)
        return super().parse(function, files, *args)


class Dying(InProcess):
    """A parser whose process ends at every file."""

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        return [errors.CrashedError(one.path, "its reader was killed") for one in files]


def opened(path: str | Path, *, pid: int = 0, mount_ns: int | None = None, **more: object) -> FileOpen:
    """An event: this process, or another one, has opened a file."""
    namespace = os.stat("/proc/self/ns/mnt").st_ino if mount_ns is None else mount_ns
    event = FileOpen(
        timestamp="2026-01-01T00:00:00.000000Z",
        pid=pid or os.getpid(),
        tid=pid or os.getpid(),
        uid=0,
        gid=0,
        process="test",
        mount_ns=namespace,
        file=canonical.escape_bytes(os.fsencode(path)),
        flags="O_RDONLY",
        result=3,
    )
    return msgspec.structs.replace(event, **more)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key by a name that promises a certificate."""
    path = tmp_path / "web.crt"
    path.write_bytes(openssl.make(tmp_path, "/CN=web").key)
    return path


def test_content_decides_and_not_the_name(key: Path) -> None:
    """What crypto-tracer got wrong."""
    assert FileTypes(Host()).of(opened(key)) == KEY


def test_links_and_steps_upwards_are_followed(key: Path, tmp_path: Path) -> None:
    """/etc/letsencrypt/live is made of links; programs write `..`."""
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "privkey.pem").symlink_to("../web.crt")
    (tmp_path / "far").symlink_to(tmp_path / "live")
    types = FileTypes(Host())

    assert types.of(opened(tmp_path / "live" / "privkey.pem")) == KEY
    assert types.of(opened(tmp_path / "far" / "privkey.pem")) == KEY
    assert types.of(opened(f"{tmp_path}/live/../web.crt")) == KEY


def test_names_that_are_no_text_are_found(key: Path, tmp_path: Path) -> None:
    """Events carry them escaped."""
    odd = os.path.join(os.fsencode(tmp_path), b"\xff\\x.crt")
    shutil.copy(os.fsencode(key), odd)

    assert FileTypes(Host()).of(opened(os.fsdecode(odd))) == KEY


@pytest.mark.parametrize("how", ["gone", "loop", "relative", "failed", "truncated"])
def test_what_cannot_be_reached_is_what_its_name_promises(how: str, key: Path, tmp_path: Path) -> None:
    """The file may have been removed since, or its path may be half known."""
    (tmp_path / "loop.key").symlink_to("loop.key")
    event = {
        "gone": opened(tmp_path / "gone.key"),
        "loop": opened(tmp_path / "loop.key"),
        "relative": opened("certs/gone.key"),
        "failed": opened(key.rename(tmp_path / "a.key"), result=-13, error="EACCES"),
        "truncated": opened("/" + "x" * 50 + ".key", truncated=True),
    }[how]

    assert FileTypes(Host()).of(event) == FileKind(file_type="private_key")


def test_a_file_whose_reader_ended_is_told_by_name_and_that_is_said(key: Path) -> None:
    """Whoever could end readers would else hide keys without a word."""
    files = FileTypes(Host(parser=Dying()))
    assert files.unread() == ()

    kind = files.of(opened(key))

    assert kind == FileKind(file_type="certificate")
    assert files.unread() == ("1 files told by name alone: they could not be read",)


def test_a_name_that_promises_nothing_is_unknown(tmp_path: Path) -> None:
    """Never an error, never null."""
    assert FileTypes(Host()).of(opened(tmp_path / "gone")) == UNKNOWN


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "null"])
def test_nothing_but_a_regular_file_is_opened(kind: str, tmp_path: Path) -> None:
    """Opening a FIFO waits, opening a tape rewinds it; a key that is piped in is read by another."""
    path = tmp_path / "a.key"
    counting = Counting()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o140600)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")

    assert FileTypes(Host(parser=counting)).of(opened(path)) == FileKind(file_type="private_key")
    assert counting.asked == 0


def test_a_file_on_no_local_file_system_is_left_alone() -> None:
    """/proc stands here for all that the mount table does not call local: a dead server would hold us up."""
    counting = Counting()

    assert FileTypes(Host(parser=counting)).of(opened("/proc/self/status")) == UNKNOWN
    assert counting.asked == 0


def test_an_answer_is_kept_and_an_empty_one_not_for_long(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream has thousands of opens of the same few files; a file that is empty now may be written soon."""
    now = [1000.0]
    monkeypatch.setattr("agent.printing.classify.time.monotonic", lambda: now[0])
    counting = Counting()
    types = FileTypes(Host(parser=counting))
    empty = key.with_name("new.pem")
    empty.touch()

    assert [types.of(opened(key)) for _ in range(9)] == [KEY] * 9
    assert [types.of(opened(empty)) for _ in range(9)] == [UNKNOWN] * 9
    assert counting.asked == 2

    shutil.copy(key, empty)
    now[0] += 2
    assert types.of(opened(empty)) == KEY
    assert types.of(opened(key)) == KEY
    assert counting.asked == 3
    now[0] += 3600
    assert types.of(opened(key)) == KEY
    assert counting.asked == 4


def test_a_file_that_is_being_written_is_what_its_name_promises(tmp_path: Path) -> None:
    """openssl has just opened it; there is nothing in it yet."""
    path = tmp_path / "new.key"
    path.touch()
    types = FileTypes(Host())

    assert types.of(opened(path, flags="O_WRONLY|O_CREAT|O_TRUNC")) == FileKind(file_type="private_key")


def test_no_more_is_remembered_or_read_than_there_is_a_limit_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a new name each time must not fill the agent's memory, nor its time."""
    monkeypatch.setattr("agent.printing.classify.time.monotonic", lambda: 1000.5)
    path = tmp_path / "a.key"
    path.write_text("nothing")
    counting = Counting()
    types = FileTypes(Host(parser=counting))

    for number in range(CACHE_MAX + 10):
        types.of(opened(f"{tmp_path}/{'./' * (number % 900)}{'/' * (number // 900)}a.key"))

    assert counting.asked == LOOKS_PER_S
    assert len(types._answers) <= CACHE_MAX


# -- other mount namespaces ----------------------------------------------------------------------------------


@pytest.fixture
def container(tmp_path: Path, key: Path) -> Iterator[tuple[int, int, Path]]:
    """A process with mounts of its own: pid, its namespace, and a directory that holds other files there."""
    place = tmp_path / "inside"
    place.mkdir()
    (place / "same.key").write_text("the host's own file of that name")
    script = (
        f"mount -t tmpfs none {place} && cp {key} {place}/same.key && ln -s /dev/zero {place}/zero.key"
        " && echo ready && exec sleep 60"
    )
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        process.wait()
        pytest.skip("no mount namespace can be made here")
    yield process.pid, os.stat(f"/proc/{process.pid}/ns/mnt").st_ino, place
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.root
def test_a_container_s_file_is_read_in_its_container(container: tuple[int, int, Path]) -> None:
    """By the same path the host has another file."""
    pid, namespace, place = container
    types = FileTypes(Host())

    assert types.of(opened(place / "same.key", pid=pid, mount_ns=namespace)) == KEY
    assert types.of(opened(place / "same.key")) == UNKNOWN


@pytest.mark.root
def test_the_process_of_an_event_is_no_other_by_its_number(container: tuple[int, int, Path]) -> None:
    """A number is given again; the namespace of whoever has it now is not the event's."""
    pid, namespace, place = container
    page = Path(f"/proc/{pid}/stat").read_bytes()
    stat = parse_stat(page)
    assert stat is not None
    start_ns = stat.start_ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    event = opened(place / "same.key", pid=pid, mount_ns=namespace)

    right = FileTypes(Host()).of(msgspec.structs.replace(event, start_ns=start_ns))
    wrong = FileTypes(Host()).of(msgspec.structs.replace(event, start_ns=start_ns + 60_000_000_000))

    assert right == KEY
    assert wrong == FileKind(file_type="private_key")  # the name alone


@pytest.mark.root
def test_a_link_of_a_container_leads_nowhere_else(container: tuple[int, int, Path]) -> None:
    """To a device, for one; and a container whose process has ended has taken its files along."""
    pid, namespace, place = container
    counting = Counting()
    types = FileTypes(Host(parser=counting))

    assert types.of(opened(place / "zero.key", pid=pid, mount_ns=namespace)) == FileKind(
        file_type="private_key"
    )
    gone = types.of(opened(place / "same.key", pid=4_000_000, mount_ns=namespace))
    assert gone == FileKind(file_type="private_key")
    assert counting.asked == 0
