# SPDX-License-Identifier: Apache-2.0
"""The only door to the host: no way out of its root, no waiting, no surprise in what it is asked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errors
from agent.host import LINKS_MAX, PATH_BYTES_MAX, Host, errno_name, is_regular, text
from agent.readers.whole import read_fd
from tests.agent.cli.commands import AS_NOBODY, may_be_nobody
from tests.agent.fake_host import FakeHost


@pytest.fixture
def web(tmp_path: Path) -> FakeHost:
    """A directory that is a host, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"another host's")
    return FakeHost(tmp_path / "web")


# -- paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("/a", "/etc/hostname", "/etc/hostname"),
        ("/a", "etc/hostname", "/etc/hostname"),
        ("/etc/a", "../../../../etc/hostname", "/etc/hostname"),
        ("/etc/a", "hostname", "/etc/hostname"),
        ("/a", "/../secret", "/secret"),
        ("/a", "../secret", "/secret"),
        ("/etc/a", ".//./hostname", "/etc/hostname"),
        ("/a", "/nothing/there/x", "/nothing/there/x"),
    ],
)
def test_a_link_means_what_it_means_on_that_host(web: FakeHost, link: str, target: str, real: str) -> None:
    """Absolute ones begin at the root that was given, and `..` ends there."""
    web.link(link, target)

    assert web.host.real_path(link) == real
    assert web.host.read_link(link) == target
    if real == "/etc/hostname":
        assert web.host.read(link) == b"web1\n"
    else:
        with pytest.raises(errors.VanishedError):
            web.host.read(link)


parts = st.lists(st.sampled_from(["..", ".", "", "etc", "a", "b", "c", "secret", "hostname"]), max_size=8)


@given(path=parts, targets=st.dictionaries(st.sampled_from("abc"), parts, max_size=3))
def test_no_path_leads_out_whatever_links_there_are(
    tmp_path_factory: pytest.TempPathFactory, path: list[str], targets: dict[str, list[str]]
) -> None:
    """By the kernel's own reading of what the door opens."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(b"another host's")
    web = FakeHost(outside / "web")
    for name, target in targets.items():
        web.link(f"/{name}", "/".join(target) or ".")
    host = web.host
    asked = "/" + "/".join(path)

    try:
        place = host.outside(asked)
    except errors.UnreadableError:
        return  # a circle

    inside = os.path.realpath(web.root)
    assert os.path.realpath(place) == place.rstrip("/")
    assert place.startswith(inside + "/")
    with suppress(errors.HostError):
        assert b"another" not in host.read(asked)


def test_circles_and_endless_chains_of_links_are_unreadable(web: FakeHost) -> None:
    """As the kernel has it: 40 are followed."""
    web.link("/self", "self")
    for number in range(LINKS_MAX + 1):
        web.link(f"/chain{number}", f"chain{number + 1}")
    web.file(f"/chain{LINKS_MAX + 1}", b"the end")

    assert web.host.read("/chain1") == b"the end"
    for path in ("/self", "/chain0"):
        with pytest.raises(errors.UnreadableError, match="too many levels"):
            web.host.read(path)


@pytest.mark.parametrize("root", ["/", ""])
@pytest.mark.parametrize("path", ["/a\0b", "/" + "x/" * PATH_BYTES_MAX, "/" + "x" * PATH_BYTES_MAX])
def test_what_no_file_can_be_called_is_unreadable(web: FakeHost, root: str, path: str) -> None:
    """Configuration files may hold such names; they are no bug of ours."""
    host = Host(root or str(web.root))
    for ask in (host.read, host.stat, host.read_link, host.list_dir, host.list_directories):
        with pytest.raises(errors.HostError):
            ask(path)
    assert not host.exists(path)


def test_names_are_told_by_one_reversible_escape() -> None:
    """Whatever the bytes are."""
    assert text("/srv/j\udcf6rg\\x") == r"/srv/j\xf6rg\\x"
    assert text("/srv/é") == "/srv/é"


def test_lists_are_sorted_by_bytes(web: FakeHost) -> None:
    """No file system's order shows, and no locale's."""
    for name in (b"b", b"B", b"\xff", "é".encode(), b"a"):
        web.file(b"/x/" + name, b"")
    os.mkdir(web.place("/x/folder"))
    web.link("/x/link", "folder")

    assert [os.fsencode(name) for name in web.host.list_dir("/x")] == [
        b"B", b"a", b"b", b"folder", b"link", "é".encode(), b"\xff",
    ]  # fmt: skip
    assert web.host.list_directories("/x") == ["folder"]
    with pytest.raises(errors.VanishedError):
        web.host.list_dir("/nothing")


# -- reading -------------------------------------------------------------------------------------------------


def test_a_fifo_is_never_waited_for(web: FakeHost) -> None:
    """Nobody writes into it, or somebody who writes nothing."""
    os.mkfifo(web.place("/fifo"))

    assert web.host.read("/fifo") == b""
    writer = os.open(web.place("/fifo"), os.O_RDWR)
    try:
        with pytest.raises(errors.UnreadableError):
            web.host.read("/fifo")
    finally:
        os.close(writer)


def test_a_page_larger_than_asked_for_is_refused_whole(web: FakeHost) -> None:
    """Half a page would be read for a whole one."""
    web.file("/page", b"x" * 100)

    assert web.host.read("/page", 100) == b"x" * 100
    with pytest.raises(errors.TooLargeError) as raised:
        web.host.read("/page", 99)
    assert raised.value.skip == "too_large"


@pytest.mark.parametrize(
    ("path", "kind", "skip"),
    [
        ("/nothing", errors.VanishedError, "vanished"),
        ("/etc/hostname/x", errors.UnreadableError, "unreadable"),
        ("/etc", errors.UnreadableError, "unreadable"),
    ],
)
def test_every_failure_is_counted_as_what_it_is(
    web: FakeHost, path: str, kind: type[errors.HostError], skip: str
) -> None:
    """Gone, denied and broken are different facts."""
    with pytest.raises(kind) as raised:
        web.host.read(path)
    assert (raised.value.skip, raised.value.path) == (skip, path)


@pytest.mark.root
def test_what_is_denied_is_denied() -> None:
    """Not gone, and not unreadable."""
    may_be_nobody()
    code = (
        "from agent import errors\nfrom agent.host import Host\n"
        "try: Host().read('/proc/1/maps')\n"
        "except errors.DeniedError as error: print(error.skip, error)"
    )

    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", code], check=False, capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("denied cannot read /proc/1/maps: permission denied\n", "")


def test_a_link_is_not_followed_where_it_was_not_asked_for(web: FakeHost) -> None:
    """Whoever looks at a name must not be led to another."""
    web.link("/link", "/etc/hostname")

    assert web.host.read("/link") == b"web1\n"
    with pytest.raises(errors.UnreadableError):
        web.host.read("/link", follow=False)
    assert stat.S_ISLNK(web.host.stat("/link", follow=False).st_mode)
    assert is_regular(web.host.stat("/link").st_mode)


def test_reading_leaves_the_access_time_alone(web: FakeHost) -> None:
    """Looking changes nothing on the host, where the kernel lets us."""
    place = os.fsdecode(web.place("/etc/hostname"))
    os.utime(place, ns=(1, os.stat(place).st_mtime_ns))

    web.host.read("/etc/hostname")

    assert os.stat(place).st_atime_ns == 1


def test_a_page_that_comes_in_pieces_is_read_to_its_end() -> None:
    """One read is never enough for a page of /proc."""
    reading, writing = os.pipe()

    def write() -> None:
        for _ in range(50):
            os.write(writing, b"piece")
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_fd(reading, 1000, "x") == b"piece" * 50
    writer.join()
    os.close(reading)
    with pytest.raises(errors.UnreadableError, match="cannot read x: bad file descriptor"):
        read_fd(reading, 1000, "x")


def test_nothing_stays_open(web: FakeHost) -> None:
    """Also where it failed."""
    before = os.listdir("/proc/self/fd")
    for path in ("/etc/hostname", "/nothing", "/etc", "/a\0b"):
        for _ in range(3):
            with suppress(errors.HostError):
                web.host.read(path)

    assert os.listdir("/proc/self/fd") == before


# -- people, processes, machine ------------------------------------------------------------------------------


def test_users_and_groups_are_those_of_that_host(web: FakeHost) -> None:
    """From its own files; the first of two with one number counts, as in the C library."""
    web.file(
        "/etc/passwd",
        b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/toor:/bin/sh\n+::::::\nbad:x:1\nalice:x:1000:1000:A:/home/alice:/bin/sh\n",
    )

    host = web.host

    assert [host.user(uid) for uid in (0, 1000, 33)] == ["root", "alice", "uid:33"]
    assert [host.group(gid) for gid in (0, 33, 9)] == ["root", "www-data", "gid:9"]
    assert host.homes() == {"/root": 0, "/home/alice": 1000}
    assert host.users() == {0: "root", 1000: "alice"}


def test_a_host_without_users_has_numbers(tmp_path: Path) -> None:
    """A minimal image has no such files."""
    host = Host(str(tmp_path))

    assert (host.user(0), host.group(0), host.homes()) == ("uid:0", "gid:0", {})


def test_processes_are_numbers_in_ascending_order(web: FakeHost) -> None:
    """Whatever else is called in /proc."""
    for name in ("10", "9", "100", "self", "1a", "²", "٣", "-1", "9" * 40, "sys"):
        os.makedirs(web.place(f"/proc/{name}/x"), exist_ok=True)

    assert web.host.pids() == [9, 10, 100]
    assert web.host.own_pid == 0
    assert Host().own_pid == os.getpid()
    assert os.getpid() in Host().pids()


def test_the_name_of_this_machine_is_the_kernels() -> None:
    """As uname(2) has it."""
    assert Host().hostname() == os.uname().nodename


# -- tools ---------------------------------------------------------------------------------------------------


def tool(code: str) -> list[str]:
    """A program that does this."""
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", code]


def test_a_tool_has_a_clean_environment_no_input_and_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator has exported must not change what it answers, or be handed on."""
    monkeypatch.setenv("LD_PRELOAD_FOR_TESTS", "secret")
    code = "import os, sys; print(sorted(os.environ), repr(sys.stdin.read()), os.getcwd(), sys.argv[1:])"

    done = Host().run_tool([*tool(code), "$(id)"])

    names, rest = done.decode().split("] ", 1)
    assert set(names.strip("[").replace("'", "").split(", ")) <= {"LC_ALL", "LC_CTYPE", "PATH"}
    assert rest == "'' / ['$(id)']\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('password: hunter2')", "exited 1"),
        ("print('hunter2' * 100)", "printed more than 100 bytes"),
        ("import os; os.abort()", "exited -6"),
    ],
)
def test_a_tool_that_fails_is_told_without_its_words(code: str, words: str) -> None:
    """They may hold secrets."""
    with pytest.raises(errors.ToolError) as raised:
        Host().run_tool(tool(code), bytes_max=100)

    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_tool_that_does_not_end_is_stopped() -> None:
    """The agent's own time is bounded."""
    with pytest.raises(errors.ToolError, match=r"took more than 0\.1 s and was stopped"):
        Host().run_tool(tool("import time; time.sleep(60)"), timeout_s=0.1)


def test_a_tool_that_is_missing_is_said(tmp_path: Path) -> None:
    """With the kernel's reason; and a host that is a directory has none to run."""
    with pytest.raises(errors.ToolError, match=r"cannot run /nonexistent/rpm: No such file"):
        Host().run_tool(["/nonexistent/rpm"])
    with pytest.raises(errors.ToolError, match="is not run for a host that is a directory"):
        Host(str(tmp_path)).run_tool(["/bin/true"])


def test_numbers_of_errors_have_names() -> None:
    """Or stay numbers."""
    assert (errno_name(2), errno_name(9999)) == ("ENOENT", "9999")
