# SPDX-License-Identifier: Apache-2.0
"""A file of events: appended to, rotated, and never one that somebody else has put there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors, formats
from agent.printing.stream import File, Output, StandardOutput

EVENT = {"event_type": "file_open", "process": "cat", "file": "/etc/ssl/a.pem"}


def to(path: Path, form: str = "json-stream", *, is_empty: bool = False) -> Output:
    """Events to that file, begun."""
    output = Output(formats.stream(form), str(path), is_empty=is_empty)
    output.begin()
    return output


def pids(path: Path) -> list[int]:
    """Of the events in a file of lines."""
    return [json.loads(line)["pid"] for line in path.read_text().splitlines()]


def test_each_event_is_in_the_file_at_once(tmp_path: Path) -> None:
    """Whoever reads along sees it, and only whole lines."""
    out = tmp_path / "events.json"
    output = to(out)
    for number in range(3):
        output.show(EVENT | {"pid": number})
        assert pids(out) == list(range(number + 1))
    output.end()
    assert pids(out) == [0, 1, 2]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_new_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    """Whatever the umask."""
    out = tmp_path / "events.json"
    before = os.umask(umask)
    try:
        to(out).end()
    finally:
        os.umask(before)

    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_appended_to_and_keeps_its_mode(tmp_path: Path) -> None:
    """logrotate(8) makes the new one with the mode that its shippers need."""
    out = tmp_path / "events.json"
    out.write_text('{"pid": 1}\n')
    out.chmod(0o640)

    output = to(out)
    output.show({"pid": 2})
    output.end()

    assert pids(out) == [1, 2]
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_it_is_emptied_first_only_where_that_is_asked_for_and_not_before_it_begins(tmp_path: Path) -> None:
    """Who could not watch at all has lost nothing."""
    out = tmp_path / "events.json"
    out.write_text('{"pid": 1}\n')
    output = Output(formats.stream("json-stream"), str(out), is_empty=True)
    assert pids(out) == [1]

    output.begin()
    output.show({"pid": 2})
    output.end()

    assert pids(out) == [2]


def test_two_may_write_to_one_file(tmp_path: Path) -> None:
    """Each event is one append."""
    out = tmp_path / "events.json"
    one, other = to(out), to(out)
    for number in range(0, 100, 2):
        one.show({"pid": number})
        other.show({"pid": number + 1})

    assert pids(out) == list(range(100))


@pytest.mark.parametrize("form", ["json-array", "json-pretty"])
def test_nothing_is_appended_to_what_has_ended(tmp_path: Path, form: str) -> None:
    """Two arrays after one another are no JSON; what is there stays, unless it is given up."""
    out = tmp_path / "events.json"
    to(out, form).end()
    first = out.read_bytes()
    assert json.loads(first) == []

    with pytest.raises(
        errors.UsageError, match=r"is not empty, .*; use --overwrite, or --format json-stream"
    ):
        to(out, form)
    assert out.read_bytes() == first

    output = to(out, form, is_empty=True)
    output.show(EVENT)
    output.end()
    assert json.loads(out.read_text()) == [EVENT]


def test_a_summary_is_appended_to_another(tmp_path: Path) -> None:
    """Text is text."""
    out = tmp_path / "summary"
    to(out, "summary").end()
    to(out, "summary").end()

    assert out.read_text() == "events: 0\n" * 2


# -- rotation ------------------------------------------------------------------------------------------------


def rotate(out: Path) -> Path:
    """As logrotate(8) does."""
    old = out.with_name(out.name + ".1")
    out.rename(old)
    return old


@pytest.mark.parametrize("is_made", [False, True], ids=["nocreate", "create"])
def test_after_a_rotation_events_go_to_the_new_file(tmp_path: Path, is_made: bool) -> None:
    """Until the signal to the old one, then to the new one; none is lost and none is twice."""
    out = tmp_path / "events.json"
    output = to(out)
    output.show({"pid": 1})
    old = rotate(out)
    if is_made:
        out.touch(mode=0o640)
    output.show({"pid": 2})
    assert output.reopen_if_asked() is None
    output.show({"pid": 3})

    output.ask_to_reopen()
    assert output.reopen_if_asked() is None
    assert output.reopen_if_asked() is None
    output.show({"pid": 4})
    output.end()

    assert (pids(old), pids(out)) == ([1, 2, 3], [4])
    assert stat.S_IMODE(out.stat().st_mode) == (0o640 if is_made else 0o600)


@pytest.mark.parametrize("form", ["json-array", "json-pretty"])
def test_each_file_is_a_whole_array(tmp_path: Path, form: str) -> None:
    """The old one is ended, and the new one begun."""
    out = tmp_path / "events.json"
    output = to(out, form)
    output.show({"pid": 1})
    old = rotate(out)
    output.ask_to_reopen()
    assert output.reopen_if_asked() is None
    output.show({"pid": 2})
    output.show({"pid": 3})
    output.end()

    assert json.loads(old.read_text()) == [{"pid": 1}]
    assert json.loads(out.read_text()) == [{"pid": 2}, {"pid": 3}]


def test_a_signal_without_a_rotation_changes_nothing(tmp_path: Path) -> None:
    """Nobody has moved the file away: the array goes on."""
    out = tmp_path / "events.json"
    output = to(out, "json-array", is_empty=True)
    output.show({"pid": 1})
    output.ask_to_reopen()
    assert output.reopen_if_asked() is None
    output.show({"pid": 2})
    output.end()

    assert json.loads(out.read_text()) == [{"pid": 1}, {"pid": 2}]


@pytest.mark.parametrize("obstacle", ["directory", "link", "full array"])
def test_where_it_cannot_be_opened_anew_the_old_file_is_written_on(tmp_path: Path, obstacle: str) -> None:
    """A watch does not end because a rotation went wrong; it is said."""
    out = tmp_path / "events.json"
    output = to(out, "json-array", is_empty=True)
    output.show({"pid": 1})
    old = rotate(out)
    if obstacle == "directory":
        out.mkdir()
    elif obstacle == "link":
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.write_text("[]\n")

    output.ask_to_reopen()
    complaint = output.reopen_if_asked()
    assert complaint is not None
    assert complaint.endswith("; the old file is written on")
    assert output.reopen_if_asked() is None
    output.show({"pid": 2})
    output.end()

    assert json.loads(old.read_text()) == [{"pid": 1}, {"pid": 2}]
    assert not (tmp_path / "elsewhere").exists()


# -- what others have put there ------------------------------------------------------------------------------


def refused(path: Path, complaint: str) -> None:
    """Neither opened for writing nor made."""
    with pytest.raises((errors.UsageError, errors.OutputError), match=complaint):
        Output(formats.stream("json-stream"), str(path), is_empty=True)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """In a directory of everybody's it leads where another user wants."""
    aim = tmp_path / "aim"
    aim.write_text("precious")
    for name, target in (("link", aim), ("dangling", tmp_path / "nothing")):
        (tmp_path / name).symlink_to(target)
        refused(tmp_path / name, "is a link; name the file itself")
    assert aim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_a_second_name_of_a_file_is_refused(tmp_path: Path) -> None:
    """The first one may be of a file that matters."""
    aim = tmp_path / "aim"
    aim.write_text("precious")
    os.link(aim, tmp_path / "events.json")

    refused(tmp_path / "events.json", r"has other names \(hard links\)")
    assert aim.read_text() == "precious"


@pytest.mark.root
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """He would read what only we may see."""
    for name, make in (("file", lambda path: path.touch(0o666)), ("fifo", os.mkfifo)):
        make(tmp_path / name)
        os.chown(tmp_path / name, 65534, 65534)
        if name == "fifo":
            reading = os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
            refused(tmp_path / name, "belongs to another user")
            os.close(reading)
        else:
            refused(tmp_path / name, "belongs to another user")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """With the kernel's reason."""
    refused(tmp_path, "is a directory")
    refused(tmp_path / "missing" / "x", "no such file or directory")
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "nobody reads it")
    if os.path.exists("/dev/loop0") and os.geteuid() == 0:
        refused(Path("/dev/loop0"), "is no file that can be appended to")


def test_a_fifo_of_ours_is_written_to(tmp_path: Path) -> None:
    """A reader on the same host; when it goes, the watch has nobody to watch for."""
    out = tmp_path / "fifo"
    os.mkfifo(out)
    reading = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    output = to(out)
    output.show({"pid": 1})
    assert os.read(reading, 100) == b'{"pid":1}\n'
    output.ask_to_reopen()
    assert output.reopen_if_asked() is None

    os.close(reading)
    with pytest.raises(BrokenPipeError):
        output.show({"pid": 2})


def test_writing_waits_for_a_slow_reader(tmp_path: Path) -> None:
    """Opened without waiting, written to with: no event is torn because a pipe is full."""
    out = tmp_path / "fifo"
    os.mkfifo(out)
    reading = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    file = File(str(out))

    assert not fcntl.fcntl(file._fd, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(reading)


def test_a_device_is_written_to() -> None:
    """/dev/null and terminals."""
    output = to(Path("/dev/null"), is_empty=True)
    output.show(EVENT)
    output.ask_to_reopen()
    assert output.reopen_if_asked() is None
    output.end()


# -- full disks ----------------------------------------------------------------------------------------------


def test_a_full_disk_is_said() -> None:
    """With its name."""
    with pytest.raises(errors.OutputError, match=r"^cannot write /dev/full: no space left on device$"):
        to(Path("/dev/full")).show(EVENT)


@pytest.fixture
def tight() -> Iterator[int]:
    """Files of this process may have so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield 100
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_half_an_event_is_taken_back(tmp_path: Path, tight: int) -> None:
    """What is appended later must not continue it; what was whole stays."""
    out = tmp_path / "events.json"
    output = to(out)
    output.show({"pid": 1})
    with pytest.raises(errors.OutputError, match=os.strerror(errno.EFBIG).lower()):
        output.show({"pid": 2, "file": "x" * tight})

    assert out.read_text() == '{"pid":1}\n'


def test_it_is_not_taken_back_where_another_has_appended_meanwhile(tmp_path: Path) -> None:
    """His event is whole."""
    out = tmp_path / "events.json"
    file = File(str(out))
    file.write(b"half")
    with out.open("ab") as other:
        other.write(b"his\n")

    file._take_back(4)

    assert out.read_bytes() == b"halfhis\n"


# -- standard output -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "-", "/dev/stdout"])
def test_standard_output_has_several_names(
    name: str | None, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """And is nothing that could be rotated."""
    output = Output(formats.stream("json-stream"), name, is_empty=True)
    assert not output.is_file
    output.begin()
    output.show({"pid": 1})
    output.ask_to_reopen()
    assert output.reopen_if_asked() is None
    output.end()

    assert capfdbinary.readouterr().out == b'{"pid":1}\n'


def test_a_reader_that_has_gone_is_noticed_without_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `| head -1` would wait for one more event."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        target = StandardOutput()
        assert not target.is_reader_gone()
        os.close(reading)
        assert target.is_reader_gone()


def test_a_file_as_standard_output_always_has_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`> events.json`."""
    with (tmp_path / "events.json").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert not StandardOutput().is_reader_gone()
