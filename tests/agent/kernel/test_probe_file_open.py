# SPDX-License-Identifier: Apache-2.0
"""Does a record of file_open become the event that it is? On records made of bytes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel import event
from agent.kernel.probes import file_open
from agent.kernel.probes.file_open import decode, flags_text, resolve
from agent.model import canonical


def record(
    name: bytes = b"/etc/ssl/a.pem",
    base: bytes = b"",
    exe: bytes = b"cat\0bin\0usr\0",
    *,
    flags: int = 0,
    result: int = 3,
    notes: int = 0,
    kind: int = event.EVENT_FILE_OPEN,
    comm: bytes = b"cat",
) -> bytes:
    """A record as the kernel half writes it."""
    fixed = event.FILE_OPEN.pack(
        1_500_000_000, 7, 8, 9, 100, 101, 1000, 1001, 4026531841, kind, notes, comm,
        flags, result, len(name), len(base), len(exe),
    )  # fmt: skip
    return fixed + name + base + exe


def test_an_ordinary_open_is_told_whole() -> None:
    """Every field has its own value here, so none can be exchanged."""
    # Given a record and a wall clock that is ahead of the kernel's by 10 s
    # When it is decoded
    seen = decode(record(flags=os.O_RDWR | os.O_CLOEXEC), 10_000_000_000)
    # Then the document has every field, and those that say nothing are left out
    assert msgspec.to_builtins(seen) == {
        "event_type": "file_open",
        "timestamp": "1970-01-01T00:00:11.500000Z",
        "pid": 100,
        "tid": 101,
        "uid": 1000,
        "gid": 1001,
        "process": "cat",
        "exe": "/usr/bin/cat",
        "cgroup_id": 8,
        "mount_ns": 4026531841,
        "start_ns": 7,
        "file": "/etc/ssl/a.pem",
        "flags": "O_RDWR|O_CLOEXEC",
        "result": 3,
    }


@pytest.mark.parametrize(
    ("made", "field", "value"),
    [
        (record(result=-errno.EACCES), "error", "EACCES"),
        (record(result=-4000), "error", "4000"),
        (record(notes=event.NOTE_NAME_TRUNCATED), "truncated", True),
        (record(notes=event.NOTE_FLAGS_UNREAD, flags=1), "flags", ""),
        (record(notes=event.NOTE_EXE_DELETED), "exe", "/usr/bin/cat (deleted)"),
        (record(exe=b""), "exe", None),
        (record(exe=b"", notes=event.NOTE_EXE_CUT), "exe", None),
        (record(exe=b"\xff\0bin\0"), "exe", "/bin/\\xff"),
        (record(comm=b"a\\b\xff"), "process", "a\\\\b\\xff"),
        (record(comm=b"0123456789abcdef"), "process", "0123456789abcdef"),
        (record(b"x.pem", b"etc\0"), "file", "/etc/x.pem"),
        (record(b"x.pem", b"etc\0"), "file_raw", "x.pem"),
        (record(b"x.pem"), "file", "/x.pem"),
        (record(b"x.pem", notes=event.NOTE_BASE_CUT), "file", "x.pem"),
        (record(b"x.pem", notes=event.NOTE_BASE_CUT), "file_raw", None),
        (record(b"\xc3\xbc\xff\\.pem", b"r\0"), "file", "/r/ü\\xff\\\\.pem"),
    ],
)
def test_what_is_unusual_is_said(made: bytes, field: str, value: object) -> None:
    """One record for each thing that can be out of the ordinary."""
    assert getattr(decode(made, 0), field) == value


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        record()[:95],
        record()[:-1],
        record() + b"\0",
        record(kind=2),
        record(name=b"x" * 5000),
        record(exe=b"no end"),
        record(base=b"no end"),
    ],
)
def test_a_broken_record_is_malformed_and_nothing_else(broken: bytes) -> None:
    """The monitor counts it and goes on; any other exception would end the stream."""
    with pytest.raises(event.MalformedEventError):
        decode(broken, 0)


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """The kernel half is ours, but a ring full of surprises must not stop the agent."""
    try:
        seen = decode(data, 0)
    except event.MalformedEventError:
        return
    assert canonical.timestamp_of(canonical.parse_timestamp(seen.timestamp)) == seen.timestamp


@given(
    name=st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name),
    base=st.lists(
        st.binary(min_size=1, max_size=20).filter(lambda part: b"\0" not in part and b"/" not in part),
        max_size=5,
    ),
)
def test_any_name_makes_a_document_that_says_it(name: bytes, base: list[bytes]) -> None:
    """Names are bytes; the document is text; the way back must exist."""
    # Given a name and a directory of any bytes
    walked = b"".join(part + b"\0" for part in reversed(base))
    # When the record is decoded and its document read again
    seen = decode(record(name, walked), 0)
    again = msgspec.json.decode(msgspec.json.encode(seen), type=file_open.FileOpen)
    # Then nothing is lost
    assert canonical.unescape_text(again.file_raw or again.file) == name
    assert canonical.unescape_text(again.file) == resolve(base, name)


@pytest.mark.parametrize(
    ("base", "name", "path"),
    [
        (None, b"x.pem", b"x.pem"),
        ([], b"/etc/ssl/x.pem", b"/etc/ssl/x.pem"),
        ([], b"//etc///ssl/./x.pem", b"/etc/ssl/x.pem"),
        ([b"srv", b"www"], b"x.pem", b"/srv/www/x.pem"),
        ([b"srv", b"www"], b"../x.pem", b"/srv/x.pem"),
        ([b"srv"], b"../../../x.pem", b"/x.pem"),
        # `conf` may be a link, so where `..` leads from there is not known.
        ([b"srv"], b"conf/../x.pem", b"/srv/conf/../x.pem"),
        ([b"jail"], b"/etc/x.pem", b"/jail/etc/x.pem"),
        # Nobody climbs out of his root.
        ([b"jail"], b"/../../etc/x.pem", b"/jail/etc/x.pem"),
        ([b"srv"], b".", b"/srv"),
        ([], b"/", b"/"),
    ],
)
def test_names_begin_at_their_base(base: list[bytes] | None, name: bytes, path: bytes) -> None:
    """Without asking the file system, and without claiming more than is certain."""
    assert resolve(base, name) == path


@pytest.mark.parametrize("access", ["O_RDONLY", "O_WRONLY", "O_RDWR"])
@pytest.mark.parametrize("name", [name for name in vars(os) if name.startswith("O_") and name != "O_ACCMODE"])
def test_every_flag_that_python_knows_has_its_name(name: str, access: str) -> None:
    """Each alone, on top of each access mode."""
    bits = getattr(os, name)
    text = flags_text(bits | getattr(os, access))
    # These are other names of flags that have one already; some flags are 0 here.
    same = {"O_NDELAY": "O_NONBLOCK", "O_RSYNC": "O_SYNC", "O_FSYNC": "O_SYNC"}.get(name, name)
    if bits & ~os.O_ACCMODE:
        assert text == f"{access}|{same}"
    else:
        assert text in ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_WRONLY|O_RDWR")


def test_flags_have_the_values_of_the_kernels_header(tmp_path: Path) -> None:
    """Python's constants are the C library's; these are the kernel's own."""
    # Given the kernel's header, as the compiler reads it
    if shutil.which("cc") is None or not Path("/usr/include/linux/fcntl.h").exists():
        pytest.skip("cc or the kernel's headers are not installed")
    said = subprocess.run(
        ["cc", "-E", "-dM", "-include", "linux/fcntl.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [line.split()[1] for line in said.splitlines() if line.startswith("#define O_")]
    program = tmp_path / "flags.c"
    lines = "".join(f'printf("{name} %u\\n", (unsigned)({name}));' for name in names)
    program.write_text(f"#include <linux/fcntl.h>\n#include <stdio.h>\nint main(void) {{ {lines} }}\n")
    subprocess.run(["cc", "-o", tmp_path / "flags", program], check=True)
    output = subprocess.run([tmp_path / "flags"], capture_output=True, text=True, check=True).stdout
    values = {name: int(value) for name, value in (line.split() for line in output.splitlines())}
    # When each flag is given a name
    wrong = {
        name: flags_text(value)
        for name, value in values.items()
        if value & ~os.O_ACCMODE and name != "O_NDELAY" and flags_text(value) != f"O_RDONLY|{name}"
    }
    # Then it is its own
    assert wrong == {}
    assert "O_LARGEFILE" in values


def test_unknown_flags_are_kept_as_a_number() -> None:
    """A newer kernel's flag must not vanish."""
    assert flags_text(os.O_RDWR | 1 << 40 | 1 << 30) == "O_RDWR|0x10040000000"


def test_flags_of_several_bits_do_not_hide_their_parts() -> None:
    """O_SYNC holds the bit of O_DSYNC, O_TMPFILE that of O_DIRECTORY."""
    assert flags_text(os.O_DSYNC) == "O_RDONLY|O_DSYNC"
    assert flags_text(os.O_SYNC) == "O_RDONLY|O_SYNC"
    assert flags_text(os.O_TMPFILE | os.O_WRONLY) == "O_WRONLY|O_TMPFILE"
    assert flags_text(os.O_DIRECTORY) == "O_RDONLY|O_DIRECTORY"
