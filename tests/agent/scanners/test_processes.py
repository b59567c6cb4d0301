# SPDX-License-Identifier: Apache-2.0
"""What processes use which crypto libraries, on hosts made of files; test_processes_live.py has real ones."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.asset import LibraryUse
from agent.model.inventory import Entry, encode_part
from agent.model.location import Location, Package
from agent.scanners import Scan, processes
from agent.survey import mapped
from tests.agent.elf_files import BUILD_ID, elf_file

LIBCRYPTO = elf_file("libcrypto.so.3", constants=b"\0OpenSSL 3.0.19 27 Jan 2026\0")
START, END = 0x7F0000000000, 0x7F0000001000
ID = "0123456789abcdef" * 4
KERNEL_THREAD = "2129984"


@dataclasses.dataclass
class FakeHost:
    """A directory that looks like a host with processes."""

    root: Path

    def file(self, path: str, data: bytes) -> int:
        """Write a file of the host; returns its inode number."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return place.stat().st_ino

    def process(
        self,
        pid: int,
        *names: str,
        exe: str = "/usr/sbin/nginx",
        cgroup: str = "0::/system.slice/nginx.service\n",
        files: dict[str, str] | None = None,
        maps: bytes | None = None,
        flags: str = "4194560",
        state: str = "S",
    ) -> None:
        """A process that has files mapped.

        Args:
            names: as the page writes them; the file is the host's of that path, or another (`files`).
            files: names and the paths of what is really mapped, reached through map_files.
            maps: the page as it is, instead.
        """
        page = b""
        proc = f"/proc/{pid}"
        self.file(f"{proc}/stat", f"{pid} (nginx) {state} 1 1 1 0 -1 {flags} 0 0\n".encode())
        self.file(f"{proc}/cgroup", cgroup.encode())
        self.file(f"{proc}/status", b"Name:\tnginx\nUid:\t33\t0\t0\t0\n")
        folder = self.root / "proc" / str(pid)
        (folder / "map_files").mkdir()
        for number, name in enumerate(names):
            start, end = START + number * 0x10000, END + number * 0x10000
            target = (files or {}).get(name)
            inode = (self.root / (target or name).lstrip("/")).stat().st_ino
            page += b"%x-%x r-xp 00000000 fe:00 %d     %s\n" % (start, end, inode, os.fsencode(name))
            if target:
                (folder / "map_files" / f"{start:x}-{end:x}").symlink_to(target)
        self.file(f"{proc}/maps", page if maps is None else maps)
        (folder / "exe").symlink_to(exe)
        (folder / "root").symlink_to("/")

    def scan(self) -> Scan:
        """What the scanner finds; the entries are fit for a document."""
        scan = processes.scan(Host(str(self.root)))
        assert encode_part(scan.entries)
        return scan


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A host without processes."""
    (tmp_path / "proc").mkdir()
    return FakeHost(tmp_path)


def keys(scan: Scan) -> list[str]:
    """Keys of the entries, sorted."""
    return sorted(entry.key for entry in scan.entries)


@pytest.mark.parametrize(
    ("path", "steady"),
    [
        ("/tmp/_MEI00000014KJ4f3j/libcrypto.so.3", "/tmp/_MEI*/libcrypto.so.3"),
        ("/run/app/_MEIab12/cryptography/_rust.abi3.so", "/run/app/_MEI*/cryptography/_rust.abi3.so"),
        ("/tmp/.mount_FreeCAx8Kd0q/usr/lib/libssl.so.3", "/tmp/.mount_*/usr/lib/libssl.so.3"),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib/x86_64-linux-gnu/libssl.so.3"),
        ("/opt/_MEI/libssl.so.3", "/opt/_MEI/libssl.so.3"),
    ],
)
def test_a_program_that_unpacks_itself_is_the_same_at_every_start(path: str, steady: str) -> None:
    """A key with a random name in it would make every restart look like a change."""
    assert processes.steady(path) == steady


def test_a_use_is_one_entry_however_many_processes_have_it(host: FakeHost) -> None:
    """A fleet's inventory must not change with the number of workers."""
    # Given two workers with one library, and its package
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.file("/var/lib/dpkg/info/libssl3.list", b"/usr/lib/libcrypto.so.3\n")
    host.file("/var/lib/dpkg/status", b"Package: libssl3\nStatus: install ok installed\nVersion: 3.0.19-1\n")
    for pid in (10, 11):
        host.process(pid, "/usr/lib/libcrypto.so.3")

    scan = host.scan()

    # Then there is one entry with all that is known, and the count is in `live`
    assert scan.entries == [
        Entry(
            key="/usr/sbin/nginx nginx.service /usr/lib/libcrypto.so.3",
            asset=LibraryUse(
                family="openssl",
                name="libcrypto",
                soname="libcrypto.so.3",
                version="3.0.19",
                build_id=BUILD_ID,
            ),
            where=Location(
                path="/usr/lib/libcrypto.so.3",
                package=Package(manager="dpkg", name="libssl3", version="3.0.19-1"),
                exe="/usr/sbin/nginx",
                unit="nginx.service",
            ),
        )
    ]
    assert scan.live == {
        "processes": 2,
        "processes_with_crypto": 2,
        "processes_executable_deleted": 0,
        "mapped_files": 1,
    }
    assert (scan.status, scan.skipped) == ("complete", {})


def test_without_the_ioctl_the_text_is_read_and_the_reason_said(host: FakeHost) -> None:
    """A regular file refuses the request as an older kernel does."""
    host.process(10, maps=b"")
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.process(11, "/usr/lib/libcrypto.so.3")

    scan = host.scan()

    assert scan.rung == "maps-text"
    assert scan.rung_reason == "the kernel has no PROCMAP_QUERY (ENOTTY)"
    assert len(scan.entries) == 1


def test_what_is_no_crypto_library_gives_no_entry(host: FakeHost) -> None:
    """Neither another library, nor a text of a likely name, nor a program."""
    host.file("/usr/lib/libc.so.6", elf_file("libc.so.6"))
    host.file("/tmp/libcrypto_notes.txt", b"OpenSSL 3.0.19 27 Jan 2026")
    host.file("/usr/lib/libssl.so.3", b"")
    host.process(10, "/usr/lib/libc.so.6", "/tmp/libcrypto_notes.txt", "/usr/lib/libssl.so.3")

    scan = host.scan()

    assert scan.entries == []
    assert (scan.status, scan.skipped) == ("complete", {})
    assert scan.live["processes_with_crypto"] == 0
    assert scan.live["mapped_files"] == 3


def test_a_copy_by_another_name_is_found(host: FakeHost) -> None:
    """Content first, names last."""
    host.file("/opt/app/data.bin", LIBCRYPTO)
    host.process(10, "/opt/app/data.bin")

    (entry,) = host.scan().entries

    assert isinstance(entry.asset, LibraryUse)
    assert (entry.asset.soname, entry.where.path) == ("libcrypto.so.3", "/opt/app/data.bin")


def test_units_and_containers_tell_uses_apart(host: FakeHost) -> None:
    """The same program in a service, a login and a container is three uses."""
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    groups = (
        "/system.slice/nginx.service",
        "/user.slice/session-7.scope",
        f"/system.slice/docker-{ID}.scope",
        "/",
    )
    for number, path in enumerate(groups):
        host.process(10 + number, "/usr/lib/libcrypto.so.3", cgroup=f"0::{path}\n")

    scan = host.scan()

    assert keys(scan) == [
        f"/usr/sbin/nginx {label} /usr/lib/libcrypto.so.3"
        for label in ("-", "docker", "nginx.service", "session.scope")
    ]
    places = {entry.key.split(" ")[1]: (entry.where.unit, entry.where.container) for entry in scan.entries}
    assert places["docker"] == (None, "docker")
    assert places["-"] == (None, None)


def test_two_images_with_one_path_are_two_entries(host: FakeHost) -> None:
    """The key of both would be the same, and neither may be lost, nor may the section fail."""
    # Given two containers whose libraries differ, each seen through map_files alone
    name = "/usr/lib/libcrypto.so.3"
    for pid, version in ((10, "3.0.19"), (11, "3.5.1")):
        build_id = f"{pid:040x}"
        host.file(
            f"/images/{pid}/libcrypto.so.3",
            elf_file("libcrypto.so.3", build_id=build_id, constants=b"\0OpenSSL %s x" % version.encode()),
        )
        host.process(
            pid,
            name,
            files={name: f"/images/{pid}/libcrypto.so.3"},
            cgroup=f"0::/system.slice/docker-{ID}.scope\n",
        )

    scan, again = host.scan(), host.scan()

    assert [key.partition("#")[0] for key in keys(scan)] == ["/usr/sbin/nginx docker " + name] * 2
    versions = {entry.asset.version for entry in scan.entries if isinstance(entry.asset, LibraryUse)}
    assert versions == {"3.0.19", "3.5.1"}
    assert encode_part(scan.entries) == encode_part(again.entries)


def test_a_package_is_given_only_for_the_hosts_own_file(host: FakeHost) -> None:
    """A container's library of the same path is not what the host's package installed."""
    name = "/usr/lib/libcrypto.so.3"
    host.file(name, elf_file("libcrypto.so.3", build_id="aa" * 20))
    host.file("/images/libcrypto.so.3", LIBCRYPTO)
    host.file("/var/lib/dpkg/info/libssl3.list", name.encode() + b"\n")
    host.file("/var/lib/dpkg/status", b"Package: libssl3\nVersion: 3.0.19-1\n")
    host.process(10, name, files={name: "/images/libcrypto.so.3"})

    (entry,) = host.scan().entries

    assert isinstance(entry.asset, LibraryUse)
    assert entry.asset.build_id == BUILD_ID
    assert entry.where.package is None


def test_a_deleted_library_keeps_its_own_identity(host: FakeHost) -> None:
    """It was upgraded, and the process still runs the old one: the finding of every Tuesday."""
    name = "/usr/lib/libcrypto.so.3"
    host.file(name, elf_file("libcrypto.so.3", build_id="bb" * 20))
    host.file("/var/lib/dpkg/info/libssl3.list", name.encode() + b"\n")
    host.file("/var/lib/dpkg/status", b"Package: libssl3\nVersion: 3.0.20-1\n")
    host.file("/old", LIBCRYPTO)
    host.process(10, f"{name} (deleted)", files={f"{name} (deleted)": "/old"})

    (entry,) = host.scan().entries

    assert entry.key == f"/usr/sbin/nginx nginx.service {name} (deleted)"
    assert isinstance(entry.asset, LibraryUse)
    assert (entry.asset.deleted, entry.asset.build_id) == (True, BUILD_ID)
    assert (entry.where.path, entry.where.package) == (name, None)


def test_a_name_that_ends_in_deleted_may_be_a_name(host: FakeHost) -> None:
    """The kernel appends the word to a name, and a name may end with it."""
    name = "/usr/lib/libcrypto.so.3 (deleted)"
    host.file(name, LIBCRYPTO)
    host.process(10, name)

    (entry,) = host.scan().entries

    assert isinstance(entry.asset, LibraryUse)
    assert (entry.asset.deleted, entry.where.path) == (False, name)


def test_the_executables_key_is_the_same_after_its_upgrade(host: FakeHost) -> None:
    """Else a restart would look like another program."""
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.process(10, "/usr/lib/libcrypto.so.3", exe="/usr/sbin/nginx (deleted)")

    scan = host.scan()

    assert keys(scan) == ["/usr/sbin/nginx nginx.service /usr/lib/libcrypto.so.3"]
    assert scan.live["processes_executable_deleted"] == 1


def test_names_of_any_bytes_reach_the_document(host: FakeHost) -> None:
    """Bytes that are no text, newlines (escaped in the page), a backslash that is none of the kernel's."""
    # Given files of such names, and a page that writes them as the kernel does
    odd = os.fsdecode(b"/srv/\xff\xfe.so"), "/srv/a\nb.so", "/srv/a\\012c.so"
    for name in odd:
        host.file(name, LIBCRYPTO)
    inodes = [(host.root / name.lstrip("/")).stat().st_ino for name in odd]
    page = b"".join(
        b"%x-%x r-xp 00000000 fe:00 %d   %s\n"
        % (START + at, END + at, inode, os.fsencode(name).replace(b"\n", rb"\012"))
        for at, (inode, name) in enumerate(zip(inodes, odd, strict=True))
    )
    host.process(10, maps=page, exe=os.fsdecode(b"/srv/\xe9xe"))

    paths = {entry.where.path for entry in host.scan().entries}

    assert paths == {r"/srv/\xff\xfe.so", "/srv/a\nb.so", r"/srv/a\\012c.so"}


def test_a_vanished_process_is_absent_not_failed(host: FakeHost) -> None:
    """Processes end all the time; that hides nothing that is there."""
    (host.root / "proc" / "12").mkdir()
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.process(13, "/usr/lib/libcrypto.so.3")
    (host.root / "proc/13/exe").unlink()

    scan = host.scan()

    assert scan.entries == []
    assert scan.skipped == {"vanished": 2}
    assert (scan.status, scan.examples) == ("complete", [])


@pytest.mark.parametrize(("flags", "state"), [(KERNEL_THREAD, "S"), ("4194560", "Z")])
def test_what_has_no_memory_is_no_process_to_look_at(host: FakeHost, flags: str, state: str) -> None:
    """Threads of the kernel and zombies map nothing, and are counted as nothing."""
    host.process(10, maps=b"", flags=flags, state=state)

    scan = host.scan()

    assert (scan.skipped, scan.live["processes"], scan.status) == ({}, 0, "complete")


def test_a_malformed_library_is_counted_and_hides_nothing(host: FakeHost) -> None:
    """It was seen for what it is."""
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO[:300])
    host.process(10, "/usr/lib/libcrypto.so.3")

    scan = host.scan()

    assert (scan.skipped, scan.status) == ({"malformed": 1}, "complete")
    assert scan.examples == ["malformed: /usr/lib/libcrypto.so.3"]


def test_a_file_that_was_replaced_by_another_is_not_taken_for_it(host: FakeHost) -> None:
    """Without map_files the path is all there is, and another file may stand there."""
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.process(10, maps=b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 1   /usr/lib/libcrypto.so.3\n")
    (host.root / "proc/10/map_files").rmdir()

    scan = host.scan()

    assert scan.entries == []
    assert (scan.skipped, scan.status) == ({"unreadable": 1}, "partial")


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_only_regular_files_are_opened(host: FakeHost, kind: str) -> None:
    """Opening a device can rewind a tape, and a FIFO can wait for ever."""
    place = host.root / "usr/lib/libssl.so.3"
    place.parent.mkdir(parents=True)
    os.mkfifo(place) if kind == "fifo" else place.mkdir()
    host.process(10, "/usr/lib/libssl.so.3")

    scan = host.scan()

    assert (scan.entries, scan.status) == ([], "complete")


@pytest.mark.parametrize("size", [1, 40, 70, 85])
def test_a_page_that_is_cut_off_gives_what_is_whole(host: FakeHost, size: int) -> None:
    """A process may unmap while its page is read."""
    host.file("/usr/lib/libcrypto.so.3", LIBCRYPTO)
    host.process(10, "/usr/lib/libcrypto.so.3")
    page = (host.root / "proc/10/maps").read_bytes()
    host.file("/proc/10/maps", page + page[:size])

    assert len(host.scan().entries) == 1


def test_without_proc_the_section_is_absent(tmp_path: Path) -> None:
    """An image that is looked at from outside has no processes, which is not the same as none with crypto."""
    scan = processes.scan(Host(str(tmp_path)))

    assert (scan.status, scan.reason) == ("absent", "there is no /proc")


@pytest.mark.parametrize(
    ("options", "capabilities", "status"),
    [
        ("rw,hidepid=invisible", "0000000000000000", "partial"),
        ("rw,hidepid=2,gid=4", "0000000000000000", "partial"),
        ("rw,hidepid=2,gid=8", "0000000000000000", "complete"),
        ("rw,hidepid=invisible", "0000000000080000", "complete"),
        ("rw,hidepid=off", "0000000000000000", "complete"),
        ("rw", "0000000000000000", "complete"),
    ],
)
def test_processes_that_proc_does_not_list_are_missed_aloud(
    host: FakeHost, options: str, capabilities: str, status: str
) -> None:
    """With hidepid nobody denies us anything: there is simply nothing to see."""
    host.file("/proc/self/mountinfo", f"22 27 0:21 / /proc rw,relatime - proc proc {options}\n".encode())
    page = f"Gid:\t7\t7\t7\t7\nGroups:\t8 \nCapEff:\t{capabilities}\nCapBnd:\t{capabilities}\n"
    host.file("/proc/self/status", page.encode())

    scan = host.scan()

    assert scan.status == status
    assert bool(scan.skipped.get("denied")) is (status == "partial")


def test_files_beyond_the_budget_are_counted(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever maps a hundred thousand files must not stop the host, nor hide among them unnoticed."""
    monkeypatch.setattr(mapped, "_FILES_MAX", 1)
    for name in "ab":
        host.file(f"/usr/lib/{name}.so", LIBCRYPTO)
    host.process(10, "/usr/lib/a.so", "/usr/lib/b.so")

    scan = host.scan()

    assert [entry.where.path for entry in scan.entries] == ["/usr/lib/a.so"]
    assert (scan.skipped, scan.status) == ({"budget": 1}, "partial")


def test_who_maps_more_than_can_be_told_hides_himself_alone(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may map thousands of libraries with long names; the others stay in sight."""
    monkeypatch.setattr(processes, "_TOLD_BYTES_MAX", 1000)
    greedy = [f"/usr/lib/{number:050}.so" for number in range(10)]
    for path in [*greedy, "/usr/lib/a.so"]:
        host.file(path, LIBCRYPTO)
    host.process(10, *greedy)
    host.process(11, "/usr/lib/a.so")

    scan = host.scan()

    assert [process.pid for process in scan.processes] == [11]
    assert [entry.where.path for entry in scan.entries] == ["/usr/lib/a.so"]
    assert (scan.skipped, scan.status) == ({"budget": 1}, "partial")


def test_versions_beyond_the_budget_are_counted(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without a version must not look like one that states none."""
    monkeypatch.setattr(mapped, "_SEARCH_BYTES_TOTAL", len(LIBCRYPTO))
    for name in "ab":
        host.file(f"/usr/lib/{name}.so", LIBCRYPTO)
    host.process(10, "/usr/lib/a.so", "/usr/lib/b.so")

    scan = host.scan()

    versions = {entry.where.path: entry.asset for entry in scan.entries}
    assert getattr(versions["/usr/lib/a.so"], "version", None) == "3.0.19"
    assert getattr(versions["/usr/lib/b.so"], "version", None) is None
    assert (scan.skipped, scan.status) == ({"budget": 1}, "partial")


def test_conda_links_one_file_into_two_environments(host: FakeHost) -> None:
    """One inode by two names is two uses, each with its own path."""
    host.file("/opt/a/libcrypto.so.3", LIBCRYPTO)
    (host.root / "opt/b").mkdir()
    os.link(host.root / "opt/a/libcrypto.so.3", host.root / "opt/b/libcrypto.so.3")
    for pid, folder in ((10, "a"), (11, "b")):
        host.process(pid, f"/opt/{folder}/libcrypto.so.3")

    paths = {entry.where.path for entry in host.scan().entries}

    assert paths == {"/opt/a/libcrypto.so.3", "/opt/b/libcrypto.so.3"}
