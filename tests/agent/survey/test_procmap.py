# SPDX-License-Identifier: Apache-2.0
"""The two ways to ask a process for what it executes from: same question, same answer."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import TooLargeError, VanishedError
from agent.procfs.maps import Mapping, parse_executable
from agent.survey import procmap
from agent.survey.procmap import NotOfferedError, QueryReader, Reader, TextReader

SELF = "/proc/self/maps"


@pytest.fixture(params=[QueryReader, TextReader])
def reader(request: pytest.FixtureRequest) -> Reader:
    """Each way in turn."""
    made: Reader = request.param()
    with open_page(SELF) as fd:
        try:
            made.executable(fd, SELF, {})
        except NotOfferedError as error:
            pytest.skip(str(error))
    return made


@contextlib.contextmanager
def open_page(path: str) -> Iterator[int]:
    """Its descriptor."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def mapped(name: bytes, size: int = mmap.PAGESIZE) -> Iterator[bytes]:
    """A file of that name, mapped to be executed; gives its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w+b") as file:
            file.truncate(size)
            with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ | mmap.PROT_EXEC):
                yield path


def every(reader: Reader, fd: int) -> list[Mapping]:
    """All executable mappings, nothing being known."""
    return reader.executable(fd, SELF, {})[1]


def named(reader: Reader, fd: int, found: list[Mapping], name: bytes) -> list[Mapping]:
    """Mappings whose file may be called so."""
    return [one for one in found if name in reader.names(fd, one, SELF)]


def test_a_process_is_asked_for_each_of_its_executable_files(reader: Reader) -> None:
    """Against the page of text, which the pure parser reads."""
    with mapped(b"a b") as path, open_page(SELF) as fd:
        found = every(reader, fd)
        listed = parse_executable(Path(SELF).read_bytes())

        assert [one[:3] for one in found] == [one[:3] for one in listed]
        assert [reader.names(fd, one, SELF)[0] for one in found] == [one.names[0] for one in listed]
        (own,) = named(reader, fd, found, path)
        status = os.stat(path)
        assert own.extent[0] == status.st_ino
        assert (own.extent[3], own.extent[4]) == (0, mmap.PAGESIZE)


def test_what_is_known_is_not_asked_for_again(reader: Reader) -> None:
    """Ten libraries are in every process."""
    with open_page(SELF) as fd:
        found = every(reader, fd)
        known = {one.extent: number for number, one in enumerate(found[1:])}

        values, others = reader.executable(fd, SELF, known)

    assert others == [one for one in found if one.extent not in known]
    assert values == [known[one.extent] for one in found if one.extent in known]


@pytest.mark.parametrize("name", [b"\xff\xfe.so", b"new\nline.so", rb"back\012slash.so", b"real (deleted)"])
def test_a_name_of_any_bytes_comes_back(reader: Reader, name: bytes) -> None:
    """As one of two, where the text leaves that open."""
    with mapped(name) as path, open_page(SELF) as fd:
        assert len(named(reader, fd, every(reader, fd), path)) == 1


def test_a_deleted_file_says_so(reader: Reader) -> None:
    """In the kernel's words."""
    with mapped(b"gone.so") as path:
        os.unlink(path)
        with open_page(SELF) as fd:
            assert len(named(reader, fd, every(reader, fd), path + b" (deleted)")) == 1


def test_a_name_longer_than_the_kernel_tells_is_read_from_the_text(reader: Reader) -> None:
    """A path may be longer than PATH_MAX, when one goes there step by step."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        # Given a file so deep that its whole path has more than 4,096 bytes
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        depth = 20
        for _ in range(depth):
            os.mkdir(b"d" * 250, dir_fd=here)
            inner = os.open(b"d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        stack.callback(os.close, here)
        fd = os.open("deep.so", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=here)
        stack.callback(os.close, fd)
        os.ftruncate(fd, mmap.PAGESIZE)

        # When it is mapped and the process is asked
        with mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC), open_page(SELF) as page:
            expected = (
                os.fsencode(os.path.realpath(folder)) + b"/" + b"/".join([b"d" * 250] * depth) + b"/deep.so"
            )
            found = named(reader, page, every(reader, page), expected)

        assert len(found) == 1


@pytest.mark.parametrize("reader", [QueryReader], indirect=True)
def test_a_mapping_that_is_replaced_in_between_has_vanished(reader: Reader) -> None:
    """Its name would be that of another file; only the page of text has the name already."""
    with mapped(b"one.so"), open_page(SELF) as fd:
        one = next(one for one in every(reader, fd) if reader.names(fd, one, SELF)[0].endswith(b"one.so"))
        other = one._replace(extent=(one.extent[0] + 1, *one.extent[1:]))

        with pytest.raises(VanishedError):
            reader.names(fd, other, SELF)
        with pytest.raises(VanishedError):
            reader.names(fd, one._replace(start=mmap.PAGESIZE), SELF)


def test_a_process_that_has_ended_has_vanished(reader: Reader) -> None:
    """Its page stays open, and there is nothing behind it."""
    pid = os.fork()
    if not pid:
        os.read(os.pipe()[0], 1)
    fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY)
    try:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        with pytest.raises(VanishedError):
            reader.executable(fd, f"/proc/{pid}/maps", {})
    finally:
        os.close(fd)


def test_more_mappings_than_we_read_are_too_many(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes 65,000 of them shall not cost the host a second for each process."""
    monkeypatch.setattr(procmap, "MAPPINGS_MAX", 3)

    with open_page(SELF) as fd, pytest.raises(TooLargeError, match="more than 3"):
        every(reader, fd)


def test_a_page_larger_than_the_limit_is_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory is bounded, whatever the page."""
    monkeypatch.setattr(procmap, "_PAGE_BYTES_MAX", 512 * 1024)
    page = tmp_path / "maps"
    page.write_bytes(b"x" * 600_000)

    with open_page(str(page)) as fd, pytest.raises(TooLargeError):
        TextReader().executable(fd, str(page), {})


def test_the_buffer_grows_to_a_large_page_and_forgets_the_last(tmp_path: Path) -> None:
    """A large process comes before a small one, and the other way round."""
    line = b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7                          /usr/lib/libssl.so.3\n"
    reader = TextReader()
    for count in (5000, 2, 5000):
        page = tmp_path / f"maps{count}"
        page.write_bytes(line * count)
        with open_page(str(page)) as fd:
            assert len(every(reader, fd)) == count


def test_a_kernel_without_the_request_says_how_it_said_so(tmp_path: Path) -> None:
    """A regular file refuses as an old kernel does."""
    (tmp_path / "maps").touch()

    with open_page(str(tmp_path / "maps")) as fd, pytest.raises(NotOfferedError, match="ENOTTY"):
        QueryReader().executable(fd, "maps", {})
