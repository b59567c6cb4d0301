# SPDX-License-Identifier: Apache-2.0
"""A document in a file that somebody named: whole or not at all, for its owner alone, nothing beside it."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from agent import errors
from tests.agent.cli.commands import run, said, snapshot
from tests.agent.fake_host import FakeHost


@pytest.fixture
def web(tmp_path: Path) -> FakeHost:
    """A host with a process."""
    web = FakeHost(tmp_path / "web")
    web.process(10)
    return web


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty directory."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_the_file_has_what_is_printed_and_is_its_owners_alone(
    web: FakeHost, folder: Path, umask: str
) -> None:
    """Whatever the umask: an inventory says where the keys are."""
    prefix = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")

    done = run("snapshot", "--root", web.root, "--output", folder / "out.json", prefix=prefix)

    assert (done.returncode, done.stdout, said(done)) == (0, b"", [])
    assert os.listdir(folder) == ["out.json"]
    assert stat.S_IMODE((folder / "out.json").stat().st_mode) == 0o600
    written = json.loads((folder / "out.json").read_text())
    printed = snapshot("--root", web.root)
    assert written["inventory"]["parts"] == printed["inventory"]["parts"]
    assert written["summary"] == printed["summary"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_has_names_too(web: FakeHost, name: str) -> None:
    """A script that must name a file names one of these."""
    printed = json.loads(run("snapshot", "--root", web.root, "--output", name).stdout)

    assert printed["summary"] == snapshot("--root", web.root)["summary"]


def test_an_older_document_is_replaced_and_its_readers_keep_it(web: FakeHost, folder: Path) -> None:
    """In one step: who has it open reads it to the end, and a second name keeps it."""
    out = folder / "out.json"
    out.write_text("the old one")
    out.chmod(0o644)
    os.link(out, folder / "kept")

    with out.open() as reading:
        assert run("snapshot", "--root", web.root, "-o", out).returncode == 0
        assert reading.read() == "the old one"

    assert json.loads(out.read_text())["hostname"] == "web1"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert (folder / "kept").read_text() == "the old one"


def plant(kind: str, out: Path) -> None:
    """Something that is no plain file, by that name."""
    aim = out.parent.parent / "aim"
    aim.write_text("the old one")
    if kind == "link":
        out.symlink_to(aim)
    elif kind == "dangling link":
        out.symlink_to(out.parent.parent / "nothing")
    elif kind == "directory":
        out.mkdir()
    elif kind == "FIFO":
        os.mkfifo(out)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(out))
    elif kind == "device":
        if os.geteuid():
            pytest.skip("only root makes devices")
        os.mknod(out, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "FIFO", "socket", "device"])
def test_what_is_no_plain_file_is_refused_and_left(web: FakeHost, folder: Path, kind: str) -> None:
    """A link could lead anywhere, and renaming over the others would take them away."""
    out = folder / "out.json"
    plant(kind, out)
    before = os.lstat(out)

    done = run("snapshot", "--root", web.root, "--output", out)

    assert done.returncode == errors.EXIT_USAGE
    assert said(done) == [f"fleet-agent: {out} is no plain file; name another"]
    assert os.path.samestat(os.lstat(out), before)
    assert os.listdir(folder) == ["out.json"]
    assert (folder.parent / "aim").read_text() == "the old one"
    assert not (folder.parent / "nothing").exists()


def test_a_directory_by_its_slash_is_refused_where_there_is_none(web: FakeHost, folder: Path) -> None:
    """Who writes a slash means a directory."""
    done = run("snapshot", "--root", web.root, "--output", f"{folder}/new/")

    assert done.returncode == errors.EXIT_USAGE
    assert os.listdir(folder) == []


def test_a_disk_that_is_full_leaves_the_old_one_and_nothing_beside_it(web: FakeHost, folder: Path) -> None:
    """A limit on the size of files fails as a full disk does, in the middle."""
    out = folder / "out.json"
    out.write_text("the old one")
    prefix = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh")

    done = run("snapshot", "--root", web.root, "--output", out, prefix=prefix)

    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == [f"fleet-agent: cannot write {out}: file too large"]
    assert out.read_text() == "the old one"
    assert os.listdir(folder) == ["out.json"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/out.json", "no such file or directory"),
        ("file/out.json", "not a directory"),
        ("x" * 256, "file name too long"),
    ],
)
def test_a_place_that_is_none_is_said(web: FakeHost, folder: Path, name: str, why: str) -> None:
    """With the kernel's own reason."""
    (folder / "file").touch()

    done = run("snapshot", "--root", web.root, "--output", folder / name)

    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == [f"fleet-agent: cannot write {folder / name}: {why}"]
    assert os.listdir(folder) == ["file"]


def test_the_longest_name_is_written_too(web: FakeHost, folder: Path) -> None:
    """What lies beside it while it is written has a short name of its own."""
    assert run("snapshot", "--root", web.root, "--output", folder / ("x" * 255)).returncode == 0
    assert os.listdir(folder) == ["x" * 255]


def test_a_directory_that_has_gone_is_said(web: FakeHost) -> None:
    """A relative name means nothing there."""
    prefix = ("sh", "-c", 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$@"', "sh")

    done = run("snapshot", "--root", web.root, "--output", "out.json", prefix=prefix)

    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == ["fleet-agent: cannot write out.json: no such file or directory"]


def test_who_reads_all_the_time_reads_whole_documents(web: FakeHost, folder: Path) -> None:
    """The old one or the new one, never a part of one."""
    out = folder / "out.json"
    out.write_text('{"hostname": "web1"}')
    is_over = threading.Event()
    broken: list[str] = []

    def read() -> None:
        while not is_over.is_set():
            page = out.read_text()
            try:
                json.loads(page)
            except ValueError:
                broken.append(page)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        codes = [run("snapshot", "--root", web.root, "-o", out).returncode for _ in range(3)]
    finally:
        is_over.set()
        reader.join()

    assert (codes, broken) == ([0, 0, 0], [])
