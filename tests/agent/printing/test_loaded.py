# SPDX-License-Identifier: Apache-2.0
"""Is a loaded file known by its content, once, and never looked at where it must not be? On a made host.

What the kernel half makes of it is in tests/bpf/test_lib_load.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.guard.parsing import Function, InProcess, Opened, T
from agent.host import Host
from agent.kernel.probes.lib_load import FileIdentity, LibLoad
from agent.printing import loaded
from agent.printing.loaded import Loaded

MOUNTS = """\
1 0 {local} / / rw - ext4 /dev/vda1 rw
2 1 0:77 / /net rw - nfs4 server:/ rw
"""


class Counting(InProcess):
    """Reads files here, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        self.count += len(files)
        return super().parse(function, files, *args)


class Made:
    """A host in a directory, on which a process has just loaded files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parser = Counting()
        self.disregarded: list[FileIdentity] = []
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(MOUNTS.format(local="8:1"))
        (root / "proc/7").mkdir()
        (root / "proc/7/mountinfo").write_text("")
        self.loaded = Loaded(Host(str(root), parser=self.parser), self.disregarded.append)

    def put(self, path: str, content: bytes) -> LibLoad:
        """A file, and the event of its load."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return self.event(path)

    def event(self, path: str, *, device: tuple[int, int] = (8, 1), deleted: bool = False) -> LibLoad:
        """The load of a file that stands there."""
        status = (self.root / path.lstrip("/")).stat()
        return LibLoad(
            timestamp="", pid=7, tid=7, uid=0, gid=0, process="x",
            library=path, library_name="", deleted=deleted,
            identity=FileIdentity(status.st_ino, status.st_ctime_ns, device[0] << 20 | device[1], 0),
            address=0x1000, length=1,
        )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """See the class."""
    return Made(tmp_path)


@pytest.fixture(scope="module")
def crypto() -> bytes:
    """A library of cryptography that is on this machine."""
    if shutil.which("ldconfig") is None:
        pytest.skip("ldconfig is not installed")
    said = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libssl\.so\.\d\S* .*=> (/\S+)", said)
    if found is None:
        pytest.skip("no libssl is installed")
    return Path(found[1]).read_bytes()


def test_a_library_is_known_by_its_content_and_read_once(made: Made, crypto: bytes) -> None:
    """However it is called, and however many processes load it."""
    # Given a library with another name
    event = made.put("/opt/innocent.bin", crypto)
    # When it is loaded often
    found = [made.loaded.of(event) for _ in range(23)]
    # Then it is what it is, and was read once
    assert {(one and one.family, one and one.name, one and one.by) for one in found} == {
        ("openssl", "libssl", "content")
    }
    assert made.parser.count == 1
    assert made.disregarded == []


def test_what_is_no_library_of_cryptography_is_disregarded(made: Made) -> None:
    """Each time that it is reported all the same: the kernel half may have forgotten."""
    event = made.put("/opt/libcrypto_notes.so.3", b"remember the milk\n")
    assert made.loaded.of(event) is None
    assert made.loaded.of(event) is None
    assert made.disregarded == [event.identity, event.identity]
    assert made.parser.count == 1


def test_half_a_library_is_none(made: Made, crypto: bytes) -> None:
    """A file that contradicts itself was read: there is nothing more to learn from it."""
    event = made.put("/opt/libssl.so.3", crypto[:100])
    assert made.loaded.of(event) is None
    assert made.disregarded == [event.identity]


def test_another_file_that_took_the_name_is_not_taken_for_it(made: Made, crypto: bytes) -> None:
    """The event tells which file it was."""
    # Given a library that was replaced since it was loaded
    event = made.put("/opt/libssl.so.3", b"the file that was loaded")
    (made.root / "opt/libssl.so.3").unlink()
    made.put("/opt/libssl.so.3", crypto)
    # When somebody looks
    found = made.loaded.of(event)
    # Then only what the name promises is told, as such, and nobody is told to leave it out
    assert found is not None
    assert (found.name, found.by, found.version) == ("libssl", "name", None)
    assert (made.parser.count, made.disregarded) == (0, [])


@pytest.mark.parametrize("device", [(0, 77), (0, 78)])
def test_a_network_file_system_is_not_touched(device: tuple[int, int], made: Made, crypto: bytes) -> None:
    """Its server may be gone, and whoever touches it hangs. So too where no table says what it is."""
    made.put("/net/libssl.so.3", crypto)
    found = made.loaded.of(made.event("/net/libssl.so.3", device=device))
    assert found is not None
    assert (found.name, found.by) == ("libssl", "name")
    assert made.parser.count == 0


def test_a_disk_that_was_unmounted_while_in_use_is_touched(made: Made, crypto: bytes) -> None:
    """What has a major number is a disk."""
    made.put("/opt/libssl.so.3", crypto)
    found = made.loaded.of(made.event("/opt/libssl.so.3", device=(8, 99)))
    assert found is not None
    assert found.by == "content"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("libcrypto.so.3", ("openssl", "libcrypto")),
        ("libcrypto-3a1b2c4d.so.1.1", ("openssl", "libcrypto")),
        ("libgnutls.so.30", ("gnutls", "libgnutls")),
        ("libcrypto_notes.txt", None),
        ("libc.so.6", None),
        ("libcrypto.so.3.bak", ("openssl", "libcrypto")),
        ("", None),
    ],
)
def test_a_name_promises_what_the_table_of_libraries_says(
    name: str, known: tuple[str, str] | None, made: Made
) -> None:
    """Where nothing else is left."""
    event = made.put("/opt/one", b"")
    (made.root / "opt/one").unlink()
    gone = LibLoad(
        timestamp="", pid=7, tid=7, uid=0, gid=0, process="x", library=f"/opt/{name}", library_name="",
        identity=event.identity, address=0, length=0,
    )  # fmt: skip
    found = made.loaded.of(gone)
    assert (found and (found.family, found.name)) == known
    # And what nothing is known of is counted: it may have been anything
    assert made.loaded.unrecognised() == (() if known else ("1 load not recognised: the file had gone",))


def test_what_could_not_be_looked_at_is_counted_by_its_reason(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library under a name of its own must not be missed silently; one that was read is not counted."""
    # Given a file that was read, two that have gone, and one behind a network
    made.loaded.of(made.put("/opt/read.bin", b"remember the milk\n"))
    for number in range(2):
        event = made.put(f"/opt/plugin{number}.bin", b"gone")
        (made.root / f"opt/plugin{number}.bin").unlink()
        assert made.loaded.of(event) is None
    made.put("/net/plugin.bin", b"far")
    assert made.loaded.of(made.event("/net/plugin.bin", device=(0, 77))) is None
    # And one for which there is no time
    monkeypatch.setattr(made.loaded, "_left_s", -1000.0)
    assert made.loaded.of(made.put("/opt/new.bin", b"new")) is None
    # Then each is told with why, and nobody is told to leave it out
    assert made.loaded.unrecognised() == (
        "2 loads not recognised: the file had gone",
        "1 load not recognised: the file system is not known to be local",
        "1 load not recognised: too many new files at once",
    )
    assert len(made.disregarded) == 1


def test_who_makes_files_without_end_does_not_keep_it_busy(
    made: Made, crypto: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes a tenth of the time at most, once the first files are read."""
    # Given a look that takes two seconds by a clock that stands still between looks
    clock = [0.0]
    monkeypatch.setattr("agent.printing.loaded.time.monotonic", lambda: clock[0])
    host = Made(made.root / "other")

    def slow(*_: object) -> object:
        clock[0] += 2.0
        return InProcess.parse(host.parser, *_)  # type: ignore[arg-type]

    monkeypatch.setattr(host.parser, "parse", slow)
    made_files = [host.put(f"/opt/libssl.so.{number}", crypto) for number in range(6)]
    # When six new files are loaded
    ways = [found.by for event in made_files if (found := host.loaded.of(event))]
    # Then three are read, and the names of the others are taken
    assert ways == ["content", "content", "content", "name", "name", "name"]
    # And after a while the next one is read again
    clock[0] += 60.0
    later = host.loaded.of(made_files[5])
    assert later is not None
    assert later.by == "content"


def test_what_it_knows_is_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream may last for days."""
    monkeypatch.setattr(loaded, "KNOWN_MAX", 8)
    events = [made.put(f"/opt/{number}", os.urandom(8)) for number in range(50)]
    for event in events:
        made.loaded.of(event)
    assert len(made.loaded._known) <= 8
    # And the newest are there
    count = made.parser.count
    made.loaded.of(events[-1])
    assert made.parser.count == count
