# SPDX-License-Identifier: Apache-2.0
"""Does the kernel half see every open, as it was, in the running kernel?

Programs see the whole machine, so each test looks for its own files alone. No test waits: see `observe`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from agent.kernel.probes.file_open import FileOpen
from agent.model import canonical
from tests.bpf.kinds import Observe, Opener

pytestmark = [pytest.mark.root, pytest.mark.kernel]

# A prime, so that no multiple of it is right by accident.
OPENS = 23


def of(events: list[FileOpen], file: str | Path) -> list[FileOpen]:
    """The events of one file."""
    return [event for event in events if event.file == str(file)]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A file with the name of a certificate."""
    path = tmp_path / "planted.pem"
    path.write_text("not a certificate\n")
    return path


@pytest.mark.parametrize(
    ("way", "flags"),
    [
        ("openat", "O_RDONLY|O_CLOEXEC"),
        ("openat2", "O_RDONLY|O_NOFOLLOW"),
        ("open", "O_RDONLY|O_CLOEXEC"),
        ("creat", "O_WRONLY|O_CREAT|O_TRUNC"),
        ("write", "O_RDWR|O_APPEND|O_CREAT"),
        ("thread", "O_RDONLY|O_CLOEXEC"),
    ],
)
def test_every_open_is_one_event_with_its_flags_and_result(
    way: str, flags: str, observe: Observe, opener: Opener, opener_path: Path, pem: Path
) -> None:
    """Each of the four system calls carries its arguments elsewhere."""
    if way in ("open", "creat") and os.uname().machine != "x86_64":
        pytest.skip("this machine has no such system call")
    # Given a planted file
    # When a program opens it 23 times
    events, stats = observe(lambda: opener(way, OPENS, pem))
    # Then there are 23 events, each true
    seen = of(events, pem)
    assert len(seen) == OPENS
    assert {event.flags for event in seen} == {flags}
    assert {event.result for event in seen} == {3}
    assert {(event.error, event.file_raw, event.truncated) for event in seen} == {(None, None, False)}
    assert {event.process for event in seen} == {"opener"}
    assert {event.exe for event in seen} == {str(opener_path)}
    assert {event.uid for event in seen} == {0}
    assert {event.pid == event.tid for event in seen} == {way != "thread"}
    assert {event.mount_ns for event in seen} == {os.stat("/proc/self/ns/mnt").st_ino}
    # And nothing was lost on the way
    assert (stats.lost, stats.malformed, stats.delivered) == (0, 0, stats.submitted)


def test_a_missing_file_is_an_event_with_its_error(observe: Observe, opener: Opener, tmp_path: Path) -> None:
    """A service that looks for a key which is not there is what an operator wants to know."""
    # Given no file of that name
    missing = tmp_path / "missing.key"
    # When it is opened
    events, _ = observe(lambda: opener("openat", OPENS, missing))
    # Then every try is there with its errno
    seen = of(events, missing)
    assert [event.result for event in seen] == [-errno.ENOENT] * OPENS
    assert {event.error for event in seen} == {"ENOENT"}


def test_a_denied_open_tells_who_was_denied(observe: Observe) -> None:
    """The real uid is that of the process, not the agent's."""
    # Given a file that others may not read, in a directory that they may enter
    shared = Path("/tmp") / f"kernel-half-{os.getpid()}.key"
    copy = shared.with_suffix("")
    shutil.copy("/bin/cat", copy)
    shared.touch(mode=0o600)
    try:
        # When another user opens it
        events, _ = observe(
            lambda: subprocess.run(
                [copy, shared], user=1234, group=1235, extra_groups=[], stderr=-3, check=False
            )
        )
    finally:
        shared.unlink()
        copy.unlink()
    # Then the event says so
    (event,) = of(events, shared)
    assert (event.error, event.uid, event.gid) == ("EACCES", 1234, 1235)
    # And an executable that is gone by the time the event is read is still known
    assert event.exe == str(copy)


def test_a_name_in_a_page_that_was_never_touched_is_seen(observe: Observe, opener: Opener, pem: Path) -> None:
    """At the call's entry such a name cannot be read; that is why the programs run at its exit."""
    # Given a name that lies in a freshly mapped page of a file
    # When it is opened 23 times, each time through a new mapping
    events, stats = observe(lambda: opener("cold", OPENS, pem, pem.with_name("page")))
    # Then every open is there
    assert len(of(events, pem)) == OPENS
    assert stats.faulted == 0


def test_a_name_that_nobody_can_read_is_no_loss(observe: Observe, opener: Opener, pem: Path) -> None:
    """The kernel could not read it either, so nothing was opened and nothing is missing from the account."""
    # Given a pointer to nowhere
    # When it is given to open 23 times
    _, stats = observe(lambda: opener("fault", OPENS, pem))
    # Then no read is counted as faulted
    assert stats.faulted == 0
    assert stats.filtered >= OPENS


@pytest.mark.parametrize(
    "name",
    [
        b"line\nbreak.pem",
        b"invalid\xff\xfeutf8.pem",
        "schlüssel.pem".encode(),
        b"back\\slash.pem",
        b'quote".pem',
        b"a" * 251 + b".pem",
        b".pem",
        b"UPPER.PEM",
        b"id_ed25519",
        b"ssh_host_rsa_key.pub",
    ],
)
def test_hostile_and_unusual_names_come_through_whole(
    name: bytes, observe: Observe, opener: Opener, tmp_path: Path
) -> None:
    """A name is bytes; whoever chooses it must not be able to hide an open or to forge another."""
    # Given a file of that name
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).touch()
    # When it is opened
    events, _ = observe(lambda: opener("openat", 1, path))
    # Then the event has the name, reversibly
    (event,) = of(events, canonical.escape_bytes(path))
    assert canonical.unescape_text(event.file) == path
    assert event.result == 3


@pytest.mark.parametrize("name", [b"plain.txt", b"xpem", b"pem", b"notid_rsa", b"x.pem.txt", b"key/file"])
def test_other_names_stay_in_the_kernel(
    name: bytes, observe: Observe, opener: Opener, tmp_path: Path
) -> None:
    """What the filter lets through that nobody asked for would fill the ring."""
    # Given a file whose name only resembles those looked for
    path = os.fsencode(tmp_path) + b"/" + name
    # When it is opened
    events, stats = observe(lambda: opener("openat", OPENS, path))
    # Then there is no event of it, and it was counted as filtered
    assert not of(events, canonical.escape_bytes(path))
    assert stats.filtered >= OPENS


@pytest.mark.parametrize("length", [300, 1100, 4095])
def test_long_names_are_whole(length: int, observe: Observe, opener: Opener, tmp_path: Path) -> None:
    """No suffix can hide behind a path longer than some buffer: there can be none beyond 4,095 bytes."""
    # Given a name of that length, of a file that is not there
    path = f"{tmp_path}/" + ("d" * 99 + "/") * 41
    path = path[: length - 6] + "/x.pem"
    # When it is opened
    events, _ = observe(lambda: opener("openat", 1, path))
    # Then the whole name is there
    (event,) = of(events, path)
    assert (event.error, event.truncated, len(event.file)) == ("ENOENT", False, length)


def test_a_name_longer_than_the_kernel_accepts_is_marked(observe: Observe, opener: Opener) -> None:
    """Only its beginning is there, and the event says so."""
    # Given a name beyond PATH_MAX below a directory that is watched
    path = "/etc/ssl/" + "a" * 5000 + ".pem"
    # When it is opened
    events, _ = observe(lambda: opener("openat", 1, path))
    # Then the kernel refused it, and the event has what fits
    (event,) = [event for event in events if event.truncated and event.process == "opener"]
    assert event.error == "ENAMETOOLONG"
    assert event.file == path[:4096]


def test_relative_names_are_made_absolute_in_the_kernel(
    observe: Observe, opener: Opener, tmp_path: Path
) -> None:
    """By the time the event is read the process is gone, and /proc with it."""
    # Given a file in the working directory of a program
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "near.pem").touch()

    # When it opens it by relative names
    def action() -> None:
        opener("openat", 1, "near.pem", cwd=tmp_path)
        opener("openat", 1, "./..//below/../near.pem", cwd=below)
        opener("at", 1, "../near.pem", below)

    events, _ = observe(action)
    # Then each event has the absolute path where that is certain, and the name as it was written
    raws = {event.file_raw: event.file for event in events if event.pid and str(tmp_path) in event.file}
    assert raws["near.pem"] == f"{tmp_path}/near.pem"
    assert raws["./..//below/../near.pem"] == f"{tmp_path}/below/../near.pem"
    assert raws["../near.pem"] == f"{tmp_path}/near.pem"


def test_names_inside_another_root_are_told_from_ours(
    observe: Observe, opener: Opener, tmp_path: Path
) -> None:
    """/etc/ssl/x.pem in a chroot is not /etc/ssl/x.pem of the host."""
    # Given a directory that is made the root of a process, or of one call
    (tmp_path / "inside.pem").touch()

    # When a file is opened there by an absolute name
    def action() -> None:
        opener("chroot", 1, "/inside.pem", tmp_path)
        opener("in_root", 1, "/../inside.pem", tmp_path)

    events, _ = observe(action)
    # Then the event has the path of the host
    seen = of(events, tmp_path / "inside.pem")
    assert [(event.file_raw, event.result >= 0) for event in seen] == [
        ("/inside.pem", True),
        ("/../inside.pem", True),
    ]


def test_an_executable_without_a_file_is_named(observe: Observe, opener_path: Path, pem: Path) -> None:
    """Programs that leave no file behind are those that one wants to hear of."""
    # Given a program that exists in memory alone
    fd = os.memfd_create("ghost", 0)
    os.write(fd, opener_path.read_bytes())
    # When it opens a file
    try:
        events, _ = observe(
            lambda: subprocess.run([f"/proc/self/fd/{fd}", "openat", "1", pem], pass_fds=[fd], check=True)
        )
    finally:
        os.close(fd)
    # Then it has the name that the kernel gives it in /proc/PID/exe
    (event,) = of(events, pem)
    assert event.exe == "/memfd:ghost (deleted)"


def test_a_deleted_executable_is_marked(
    observe: Observe, opener_path: Path, pem: Path, tmp_path: Path
) -> None:
    """A service that still runs from a replaced file is a finding of its own."""
    # Given a copy of the program that deletes itself before it opens anything
    copy = tmp_path / "copy"
    shutil.copy(opener_path, copy)
    script = f"exec 9<{copy}; rm {copy}; exec /proc/self/fd/9 openat 1 {pem}"
    # When it opens a file
    events, _ = observe(lambda: subprocess.run(["bash", "-c", script], check=True))
    # Then the mark is that of /proc/PID/exe
    (event,) = of(events, pem)
    assert event.exe == f"{copy} (deleted)"


def test_listing_a_directory_is_no_event(observe: Observe) -> None:
    """A directory of certificates is not a certificate."""
    # Given a directory that is watched
    # When it is listed
    events, _ = observe(lambda: subprocess.run(["ls", "/etc/ssl/certs"], stdout=-3, check=False))
    # Then there is no event of the directory itself
    assert [event for event in events if event.file == "/etc/ssl/certs" and event.process == "ls"] == []


def test_the_agents_own_opens_are_not_reported(observe: Observe, pem: Path) -> None:
    """Else reading certificates would be reported as using them."""
    # Given this process, which is the agent
    # When it opens a file itself
    events, stats = observe(pem.read_bytes)
    # Then that is no event, but it is in the account
    assert not of(events, pem)
    assert stats.own >= 1


def test_timestamps_are_the_wall_clocks(observe: Observe, opener: Opener, pem: Path) -> None:
    """The kernel half knows only a clock that begins at boot."""
    # Given the time before
    before = canonical.timestamp(time.time_ns() - 1_000_000)
    # When a file is opened
    events, _ = observe(lambda: opener("openat", OPENS, pem))
    after = canonical.timestamp(time.time_ns() + 1_000_000)
    # Then every event happened between before and after (1 ms for the conversion), in order
    times = [event.timestamp for event in of(events, pem)]
    assert [time for time in times if not before <= time <= after] == []
    assert times == sorted(times)
    assert len(set(times)) > 1


def test_a_full_ring_is_counted_not_hidden(observe: Observe, opener: Opener, pem: Path) -> None:
    """Silence is not health: what could not be reported must be said."""
    # Given a ring of one page, which holds a few events
    # When a program opens a file more often, and nobody reads meanwhile
    events, stats = observe(lambda: opener("openat", 20 * OPENS, pem), ring_bytes=os.sysconf("SC_PAGE_SIZE"))
    # Then what is missing is counted, and where
    seen = of(events, pem)
    assert 0 < len(seen) < 20 * OPENS
    assert len(seen) + stats.lost >= 20 * OPENS
    assert sum(stats.lost_by_cpu) == stats.lost
    assert stats.unseen >= stats.lost
    assert stats.delivered == stats.submitted


def test_equal_opens_are_folded_and_none_is_uncounted(observe: Observe, opener: Opener, pem: Path) -> None:
    """`run` wants to know who uses what, not every time; but how often must stay true."""

    # Given a window that folds
    # When one process opens a file 23 times and another one does so too
    def action() -> None:
        opener("openat", OPENS, pem)
        opener("openat", OPENS, pem)
        opener("openat", OPENS, pem.with_name("missing.pem"))

    events, stats = observe(action, is_folding=True)
    # Then each is one event, and one more for the rest
    seen = of(events, pem)
    assert sorted(event.count for event in seen) == [1, 1, OPENS - 1, OPENS - 1]
    assert len({event.pid for event in seen}) == 2
    missing = of(events, pem.with_name("missing.pem"))
    assert [(event.count, event.error) for event in missing] == [(1, "ENOENT"), (OPENS - 1, "ENOENT")]
    assert missing[0].timestamp < missing[1].timestamp
    assert stats.folded >= 3 * (OPENS - 1)
    assert stats.uncounted == 0


def test_folding_keeps_apart_what_differs(observe: Observe, pem: Path, tmp_path: Path) -> None:
    """A process that changes its directory, or becomes another program, does not do the same again."""
    # Given a shell that opens files by absolute and relative names, and then becomes a program that opens one
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / pem.name).touch()
    near = f"exec 3<{pem.name}; exec 3<{pem.name}"
    script = f"exec 3<{pem}; exec 4>>{pem}; {near}; cd sub; {near}; exec cat {pem.name}"
    # When events are folded
    events, stats = observe(
        lambda: subprocess.run(["sh", "-c", script], stdout=-3, check=True, cwd=tmp_path), is_folding=True
    )
    # Then what is equal is one event and a count, and nothing else is
    seen = [
        (event.file, event.file_raw, Path(event.exe or "").name, event.flags.split("|")[0], event.count)
        for event in events
        if event.file.startswith(str(tmp_path))
    ]
    shell = Path("/bin/sh").resolve().name
    below = str(tmp_path / "sub" / pem.name)
    assert seen[:5] == [
        (str(pem), None, shell, "O_RDONLY", 1),
        (str(pem), None, shell, "O_WRONLY", 1),
        (str(pem), pem.name, shell, "O_RDONLY", 1),
        (below, pem.name, shell, "O_RDONLY", 1),
        (below, pem.name, "cat", "O_RDONLY", 1),
    ]
    assert sorted(seen[5:]) == [
        (str(pem), pem.name, shell, "O_RDONLY", 1),
        (below, pem.name, shell, "O_RDONLY", 1),
    ]
    assert stats.uncounted == 0


def test_strace_sees_the_same(observe: Observe, tmp_path: Path) -> None:
    """A witness that we did not write, on a program that we did not write."""
    if shutil.which("strace") is None or shutil.which("openssl") is None:
        pytest.skip("strace or openssl is not installed")
    # Given a program that opens files of cryptography as it likes
    key, certificate, trace = tmp_path / "a.key", tmp_path / "a.crt", tmp_path / "trace"
    request = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=a"]
    command = [*request, "-keyout", str(key), "-out", str(certificate)]
    # When it runs under strace
    calls = "trace=open,openat,openat2,creat"
    events, _ = observe(
        lambda: subprocess.run(
            ["strace", "-f", "-qq", "-o", str(trace), "-e", calls, *command], stderr=-3, check=True
        )
    )
    # Then both tell the same names, flags and results in the same order
    pattern = re.compile(
        r'^\d+ +open\w*\((?:AT_FDCWD, )?"([^"]+)", ([A-Z_|]+).*\) = (-?\d+)(?: (\w+))?', re.MULTILINE
    )
    wanted = re.compile(r"^/etc/(ssl|pki|ssh)/|\.(pem|crt|cer|key)$")
    strace = [
        (name, set(flags.split("|")), int(result) if result != "-1" else error)
        for name, flags, result, error in pattern.findall(trace.read_text())
        if wanted.search(name) and "O_DIRECTORY" not in flags
    ]
    ours = [
        (
            event.file_raw or event.file,
            set(event.flags.split("|")),
            event.result if event.result >= 0 else event.error,
        )
        for event in events
        if event.process == "openssl"
    ]
    assert ours == strace
    assert str(key) in [name for name, _, _ in ours]
