# SPDX-License-Identifier: Apache-2.0
"""The walk: what it finds, what it never touches, and what it says it left."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.disk.walk import ANY_DEPTH, DEPTH_MAX, File, Link, Walker
from agent.host import Host
from agent.model.inventory import SkipReason
from tests.agent.cli.commands import may_be_nobody

MOUNTS = "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n"


class Seen:
    """One walk over roots of a fixture, and what came of it."""

    def __init__(self, root: Path, *roots: str, names_max: int = 1000, depth_max: int = ANY_DEPTH) -> None:
        self.skipped: list[tuple[SkipReason, str]] = []
        self.walker = Walker(
            Host(str(root)), lambda reason, path: self.skipped.append((reason, path)), names_max
        )
        self.items: list[File | Link] = []
        self.contents: dict[str, bytes] = {}
        for place in roots:
            for item in self.walker.walk(
                place, depth_max=depth_max, leave=lambda path: path.endswith("/left")
            ):
                self.items.append(item)
                if isinstance(item, File):
                    with item.open() as fd:
                        self.contents[item.path] = os.read(fd, 100)

    @property
    def files(self) -> list[str]:
        return [item.path for item in self.items if isinstance(item, File)]

    @property
    def links(self) -> dict[str, str]:
        return {item.path: item.real for item in self.items if isinstance(item, Link)}


def plant(root: Path, *paths: str, mounts: str = MOUNTS) -> Path:
    """Files that hold their own path, and a mount table."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    return root


def test_files_come_in_the_order_of_their_names_and_can_be_read(tmp_path: Path) -> None:
    """The order of a directory is that of its file system, and would show in what a budget cuts off."""
    root = plant(tmp_path, "etc/b", "etc/a/z", "etc/a/c", "etc/c", "srv/x")

    seen = Seen(root, "/etc", "/srv", "/not/there")

    assert seen.files == ["/etc/a/c", "/etc/a/z", "/etc/b", "/etc/c", "/srv/x"]
    assert seen.contents == {path: path[1:].encode() for path in seen.files}
    assert seen.skipped == []


def test_a_directory_is_come_to_once(tmp_path: Path) -> None:
    """A home below a place, or a place named twice, would double what is in it."""
    root = plant(tmp_path, "var/lib/pg/a", "var/lib/b")

    seen = Seen(root, "/var/lib", "/var/lib/pg", "/var/lib")

    assert seen.files == ["/var/lib/b", "/var/lib/pg/a"]


def test_links_are_told_with_where_they_lead_and_never_entered(tmp_path: Path) -> None:
    """Loops, links to directories, to nothing, and through other links."""
    root = plant(tmp_path, "etc/real", "data/sub/file")
    for name, target in {
        "one": "real", "two": "/etc/one", "loop": "loop", "pair-a": "pair-b", "pair-b": "pair-a",
        "up": "..", "directory": "../data/sub", "through": "directory/file", "nothing": "gone/at/all",
    }.items():  # fmt: skip
        (root / "etc" / name).symlink_to(target)

    seen = Seen(root, "/etc")

    assert seen.files == ["/etc/real"]
    assert seen.links == {
        "/etc/directory": "/data/sub",
        "/etc/nothing": "/etc/gone/at/all",
        "/etc/one": "/etc/real",
        "/etc/through": "/data/sub/file",
        "/etc/two": "/etc/real",
        "/etc/up": "/",
    }


def test_no_link_leads_out_of_the_root(tmp_path: Path) -> None:
    """The root of a fixture or of an image is the whole world, also for `..` and for absolute targets."""
    outside = tmp_path / "outside"
    outside.write_text("not of this host")
    root = plant(tmp_path / "root", "etc/a")
    (root / "etc/relative").symlink_to("../../../outside")
    (root / "etc/absolute").symlink_to(str(outside))
    (root / "opt").symlink_to("../..")

    seen = Seen(root, "/etc", "/opt")

    assert seen.files == ["/etc/a", "/proc/self/mountinfo"]
    assert seen.links["/etc/relative"] == "/outside"
    assert seen.links["/etc/absolute"] == str(outside)
    assert all(seen.walker.file(real) is None for real in seen.links.values())


def test_a_directory_that_is_no_disk_is_no_host_to_walk() -> None:
    """A host that is a directory lies on mounts of this one, and they count too: /proc holds no files."""
    seen = Seen(Path("/proc"), "/sys/kernel")

    assert (seen.items, seen.skipped) == ([], [])


def test_a_root_may_be_a_link_on_this_host(tmp_path: Path) -> None:
    """/home -> /var/home and /opt -> /var/opt on image-based systems."""
    root = plant(tmp_path, "var/home/alice/x")
    (root / "home").symlink_to("var/home")

    assert Seen(root, "/home").files == ["/var/home/alice/x"]


def test_a_hard_link_is_another_name_of_the_first(tmp_path: Path) -> None:
    """The same inode twice is one file; /etc/letsencrypt and backups are full of them."""
    root = plant(tmp_path, "etc/b")
    os.link(root / "etc/b", root / "etc/a")
    os.link(root / "etc/b", root / "etc/c")

    seen = Seen(root, "/etc")

    assert (seen.files, seen.links) == (["/etc/a"], {"/etc/b": "/etc/a", "/etc/c": "/etc/a"})


def test_specials_are_refused(tmp_path: Path) -> None:
    """Opening a FIFO may wait for ever, opening a device may do things."""
    root = plant(tmp_path, "etc/a")
    os.mkfifo(root / "etc/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "etc/socket"))
        (root / "etc/link").symlink_to("fifo")

        seen = Seen(root, "/etc")

    assert seen.files == ["/etc/a"]
    assert seen.walker.file("/etc/fifo") is None


def test_what_a_place_leaves_out_is_not_counted(tmp_path: Path) -> None:
    """A place says itself how far it reaches; that is no gap in what was looked at."""
    root = plant(tmp_path, "home/a/b/c/deep", "home/a/b/near", "home/left/x", "home/a/left/y")

    seen = Seen(root, "/home", depth_max=3)

    assert (seen.files, seen.skipped) == (["/home/a/b/near"], [])


NFS = (
    MOUNTS + "30 22 0:40 / /srv/nfs rw - nfs4 filer:/export rw\n31 22 0:41 / /home rw - autofs auto.home rw\n"
)


def test_a_foreign_file_system_is_counted_once_and_not_looked_into(tmp_path: Path) -> None:
    """Its mount point is the example, so that the operator knows which; no link into it is followed."""
    root = plant(tmp_path, "srv/a", "srv/nfs/secret", "srv/nfs/more/x", "home/alice/x", mounts=NFS)
    (root / "srv/into").symlink_to("nfs/secret")
    (root / "srv/also").symlink_to("/home/alice/x")
    (root / "opt").symlink_to("srv/nfs/more")

    seen = Seen(root, "/srv", "/home", "/opt", "/srv/nfs/more")

    assert seen.files == ["/srv/a"]
    assert seen.links == {}
    assert sorted(seen.skipped) == [("network_fs", "/home"), ("network_fs", "/srv/nfs")]


def test_what_the_kernel_makes_up_is_passed_by(tmp_path: Path) -> None:
    """Nobody keeps files in /proc, so nothing is missed."""
    mounts = MOUNTS + "30 22 0:40 / /var/lib/x/sys rw - sysfs sysfs rw\n"
    root = plant(tmp_path, "var/lib/x/a", "var/lib/x/sys/b", mounts=mounts)

    seen = Seen(root, "/var/lib")

    assert (seen.files, seen.skipped) == (["/var/lib/x/a"], [])


def test_a_spent_budget_ends_the_walk_at_the_same_name_every_time(tmp_path: Path) -> None:
    """A count and not a time: a busy host must not look like a changed one."""
    root = plant(tmp_path, *(f"etc/{name}/{number}" for name in "abc" for number in range(5)), "srv/x")

    seen, again = (Seen(root, "/etc", "/srv", names_max=10) for _ in range(2))

    # Three directories, five names in the first, two of the second.
    assert [path.rpartition("/")[0] for path in seen.files] == 5 * ["/etc/a"] + 2 * ["/etc/b"]
    assert seen.skipped == [("budget", "/etc/b"), ("budget", "/srv")]
    assert [path.rpartition("/")[0] for path in again.files] == [
        path.rpartition("/")[0] for path in seen.files
    ]


def test_a_directory_deeper_than_any_is_left(tmp_path: Path) -> None:
    """Each level holds a descriptor open, and somebody may make a thousand."""
    here = plant(tmp_path, "etc/a") / "etc"
    for _ in range(DEPTH_MAX + 40):
        here = here / "d"
        here.mkdir()

    assert [reason for reason, _ in Seen(tmp_path, "/etc").skipped] == ["budget"]


def test_a_file_that_is_replaced_while_we_look_is_not_read(tmp_path: Path) -> None:
    """Who may rename in a directory could show us one file and have us open another."""
    root = plant(tmp_path, "etc/a", "etc/secret")
    walker = Walker(Host(str(root)), lambda *_: None, 100)
    for item in walker.walk("/etc"):
        if item.path == "/etc/a" and isinstance(item, File):
            (root / "etc/a").unlink()
            (root / "etc/a").symlink_to("secret")
            with pytest.raises(errors.HostError), item.open():
                pass
            (root / "etc/a").unlink()
            os.link(root / "etc/secret", root / "etc/a")
            with pytest.raises(errors.VanishedError), item.open():
                pass


def test_a_name_of_any_bytes_is_walked(tmp_path: Path) -> None:
    """Newlines and bytes that are no UTF-8."""
    root = plant(tmp_path, "etc/a")
    for name in (b"new\nline", b"caf\xe9", b"\xff"):
        (root / "etc" / os.fsdecode(name)).write_text("x")

    assert {os.fsencode(path) for path in Seen(root, "/etc").files} == {
        b"/etc/a", b"/etc/new\nline", b"/etc/caf\xe9", b"/etc/\xff"
    }  # fmt: skip


WALK = """
import json, sys
from agent.host import Host
from agent.disk.walk import File, Walker
skipped, files = [], []
walker = Walker(Host(sys.argv[1]), lambda *skip: skipped.append(skip), 1000)
for place in sys.argv[2:]:
    for item in walker.walk(place):
        try:
            with item.open():
                files.append(item.path)
        except Exception as error:
            skipped.append((error.skip, error.path))
print(json.dumps([files, skipped]))
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that any user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
def test_what_we_may_not_read_is_denied_and_counted(shared: Path, house: Path) -> None:
    """Run as nobody: a directory and a file of somebody else's."""
    may_be_nobody()
    root = plant(shared, "etc/a", "etc/secret/x", "etc/closed")
    (root / "etc/secret").chmod(0o700)
    (root / "etc/closed").chmod(0o600)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    argv = [*nobody, sys.executable, "-c", WALK, str(root), "/etc"]
    done = subprocess.run(argv, cwd=house, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[["/etc/a"], [["denied", "/etc/closed"], ["denied", "/etc/secret"]]]'


CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def _dead_mount(point: Path) -> None:
    """In a mount namespace of this process, a FUSE file system whose daemon never answers.

    A dead NFS server does the same to whoever touches its mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(answer: int) -> None:
        if answer:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call(libc.unshare(CLONE_NEWNS))
    call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    device = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(device, True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    call(libc.mount(b"dead", os.fsencode(point), b"fuse.dead", 0, options))


TOUCH = "import os, sys; os.listdir(sys.argv[2])"


@pytest.mark.root
@pytest.mark.parametrize(("program", "hangs"), [(TOUCH, True), (WALK, False)], ids=["listdir", "walk"])
def test_a_dead_file_system_does_not_hold_the_walk_up(
    program: str, hangs: bool, tmp_path: Path, house: Path
) -> None:
    """The real thing, on the host's own mount table; os.listdir shows that the mount is dead indeed."""
    point = tmp_path / "dead"
    point.mkdir()
    (tmp_path / "link").symlink_to(point / "x")
    (tmp_path / "file").write_text("x")
    script = f"""
import os, sys
sys.path.insert(0, {str(house)!r})
from pathlib import Path
from tests.agent.disk import test_walk
try:
    test_walk._dead_mount(Path({str(point)!r}))
except OSError as error:
    sys.exit(f"refused: {{error}}")
os.execv(sys.executable, [sys.executable, "-c", {program!r}, "/", {str(point)!r}, {str(tmp_path)!r}])
"""
    child = subprocess.Popen([sys.executable, "-c", script], cwd=house, stdout=-1, stderr=-1, text=True)
    try:
        out, said = child.communicate(timeout=20 if not hangs else 3)
    except subprocess.TimeoutExpired:
        out, said = "hung", ""
        child.kill()
        child.communicate()
    if said.startswith("refused"):
        pytest.skip(f"no FUSE mount here: {said.strip()}")

    if hangs:
        assert out == "hung"
    else:
        assert child.returncode == 0, said
        assert out.strip() == f'[["{tmp_path}/file"], [["network_fs", "{point}"]]]'
