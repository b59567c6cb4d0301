# SPDX-License-Identifier: Apache-2.0
"""Which mount is under a path: pages of real kernels, and the kernel's own answer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.mountinfo import MountTable, hides_processes, parse_mountinfo

PAGE = b"""\
1 1 0:2 / / rw - rootfs rootfs rw
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
30 22 0:40 / /srv/nfs rw,relatime shared:40 - nfs4 filer:/export rw,vers=4.2
31 22 0:41 / /mnt/with\\040space\\134and\\012more rw - cifs //filer/share rw
32 22 0:42 / /home rw master:3 propagate_from:2 - autofs systemd-1 rw,fd=5
33 22 0:43 / /data rw - fuse.sshfs me@host:/ rw
34 33 0:44 / /data/local rw - tmpfs tmpfs rw
35 22 0:45 / /vendor rw - somenewfs thing rw
36 22 0:46 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "nature"),
    [
        ("/", "local"),
        ("/etc/ssl", "local"),
        ("/proc/1/maps", "virtual"),
        ("/srv", "local"),
        ("/srv/nfs", "foreign"),
        ("/srv/nfs/deep/er", "foreign"),
        ("/srv/nfsx", "local"),
        ("/mnt/with space\\and\nmore/x", "foreign"),
        ("/home/alice", "foreign"),
        ("/data/x", "foreign"),
        ("/data/local/x", "local"),
        ("/vendor", "foreign"),
        ("/mnt/ntfs", "local"),
    ],
)
def test_the_nature_of_a_path_is_that_of_the_mount_under_it(path: str, nature: str) -> None:
    """A file system nobody has heard of is not touched; an automounter's directory neither."""
    mount = MountTable(parse_mountinfo(PAGE)).of(path)

    assert mount is not None
    assert mount.nature == nature


def test_what_a_later_mount_hides_does_not_count() -> None:
    """A dead network file system that is mounted over is out of reach, and what is over it is not dead."""
    page = b"""\
22 1 254:0 / / rw - ext4 /dev/vda1 rw
30 22 0:40 / /srv/nfs rw - nfs4 filer:/export rw
40 22 0:50 / /srv rw - tmpfs tmpfs rw
50 22 0:60 / /mnt rw - nfs filer:/a rw
51 50 0:61 / /mnt rw - tmpfs tmpfs rw
52 50 0:62 / /mnt/below rw - nfs filer:/b rw
"""
    lines = page.splitlines(keepends=True)
    for order in (lines, lines[::-1]):
        # Newer kernels list mounts by number, which need not be the order of mounting.
        table = MountTable(parse_mountinfo(b"".join(order)))

        for path in ("/srv", "/srv/nfs/x", "/mnt", "/mnt/below"):
            mount = table.of(path)
            assert mount is not None
            assert mount.fs_type == "tmpfs", path
        assert table.at("/srv") is not None
        assert table.at("/srv/nfs") is None


def test_a_table_that_begins_below_the_root_says_nothing_of_what_is_above() -> None:
    """In a chroot that is no mount point the kernel lists no mount at /."""
    table = MountTable(parse_mountinfo(b"40 22 0:50 / /srv rw - tmpfs tmpfs rw\n"))

    assert table.of("/etc") is None
    assert table.of("/srv/x") is not None


@pytest.mark.parametrize(
    "line",
    [b"", b"22 1 254:0 / /", b"x 1 254:0 / / rw - ext4 d rw", b"22 1 254:0 / / rw ext4 d rw", b" - - "],
)
def test_a_line_of_another_form_is_left_out(line: bytes) -> None:
    """The kernel writes none; a fixture or a cut page may."""
    assert parse_mountinfo(line) == []
    assert len(parse_mountinfo(PAGE + line)) == len(PAGE.splitlines())


@given(st.binary())
def test_any_bytes_are_read(page: bytes) -> None:
    """A page that is no page costs nothing but its mounts."""
    MountTable(parse_mountinfo(page)).of("/a/b")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["/", "/a", "/a/b", "/c"]))))
def test_any_tree_of_mounts_ends(rows: list[tuple[int, int, str]]) -> None:
    """Parents may be missing or go round in circles: a namespace shows only part of a tree."""
    page = b"".join(
        f"{number} {parent} 0:1 / {point} rw - tmpfs t rw\n".encode() for number, parent, point in rows
    )

    MountTable(parse_mountinfo(page)).of("/a/b/c")


@pytest.mark.root
def test_the_kernel_gives_the_same_answer(tmp_path: Path) -> None:
    """Mounts beside, over and under one another in a namespace of their own; stat(1) asks what is seen."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare(1) is not there")
    steps = (
        "mkdir a b", "mount -t ramfs one a", "mkdir a/in", "mount -t tmpfs two a/in", "mkdir a/in/c",
        "mount -t ramfs three a/in/c", "mount -t tmpfs four a", "mkdir -p a/in/c",
        "mount -t tmpfs five b", "mount -t ramfs six b",
        "cat /proc/self/mountinfo", "echo ---",
        'for p in . a a/in a/in/c b; do echo "$1/$p $(stat -f -c %T $p)"; done',
    )  # fmt: skip
    script = 'set -e; cd "$1"; ' + "; ".join(steps)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    page, answers = done.stdout.split("---\n")
    table = MountTable(parse_mountinfo(page.encode()))

    assert len(answers.splitlines()) == 5
    for answer in answers.splitlines():
        path, theirs = answer.rsplit(" ", 1)
        mount = table.of(path.removesuffix("/."))
        assert mount is not None
        # stat(1) calls all ext file systems by one name.
        assert mount.fs_type == theirs or theirs.startswith(mount.fs_type[:3]), path


@pytest.mark.parametrize(
    ("options", "hides", "hides_from_group_7"),
    [
        (b"rw", False, False),
        (b"rw,hidepid=0", False, False),
        (b"rw,hidepid=noaccess", False, False),
        (b"rw,hidepid=2", True, True),
        (b"rw,hidepid=invisible", True, True),
        (b"rw,gid=7,hidepid=invisible", True, False),
        (b"rw,gid=7,hidepid=ptraceable", True, True),
        (b"rw,hidepid=4", True, True),
    ],
)
def test_proc_hides_processes_where_it_is_mounted_so(
    options: bytes, hides: bool, hides_from_group_7: bool
) -> None:
    """Pages of Linux 5.4 and 6.18, which write numbers and words."""
    page = PAGE + b"63 23 0:39 / /proc rw,nosuid - proc proc " + options + b"\n"

    assert hides_processes(page, [100]) is hides
    assert hides_processes(page, [100, 7]) is hides_from_group_7


def test_group_0_is_excepted_where_no_other_is_named() -> None:
    """The kernel's default (proc(5), gid=)."""
    page = PAGE + b"63 23 0:39 / /proc rw - proc proc rw,hidepid=invisible\n"

    assert not hides_processes(page, [0])
    assert not hides_processes(page + b"64 63 0:40 / /proc rw - proc proc rw\n", [100])


@pytest.mark.root
@pytest.mark.parametrize("option", ["0", "1", "2", "4"])
@pytest.mark.parametrize("gid", ["0", "65534"])
def test_the_kernel_agrees_who_sees_whom(option: str, gid: str) -> None:
    """Asked by nobody, who either sees process 1 in /proc or does not."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("unshare or setpriv is not installed")
    script = (
        f"mount -o remount,hidepid={option},gid={gid} /proc || exit 77; cat /proc/self/mountinfo;"
        " setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all"
        " sh -c 'test -d /proc/1 && echo SEEN || echo HIDDEN'; exit 0"
    )
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"/proc cannot be remounted: {done.stderr.decode().strip()}")

    page, _, answer = done.stdout.strip().rpartition(b"\n")

    assert hides_processes(page, [65534]) is (answer == b"HIDDEN")
