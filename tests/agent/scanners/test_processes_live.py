# SPDX-License-Identifier: Apache-2.0
"""Real processes with real libraries, seen by both rungs of the ladder, by root and by nobody."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.asset import LibraryUse
from agent.model.inventory import Entry
from agent.scanners import Scan, processes
from agent.survey import census
from agent.survey.procmap import NotOfferedError, QueryReader, Reader, TextReader

# Loads each library it is given, says so, and waits to be told to end. It dies with this test in any case.
CHILD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
libraries = [ctypes.CDLL(name) for name in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""
# A program that everybody may run, whoever owns this checkout.
PYTHON = os.path.realpath("/proc/self/exe")
NOBODY = 65534
SHARED = ctypes.util.find_library("crypto")

READERS = pytest.mark.parametrize("reader", [QueryReader, TextReader])


@contextlib.contextmanager
def child(*libraries: str | bytes | Path, prefix: tuple[str, ...] = (), code: str = CHILD) -> Iterator[int]:
    """A process that has the libraries mapped; gives its pid."""
    argv = [*prefix, PYTHON, "-I", "-S", "-c", code, *libraries]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of this host's libcrypto, by a name that says nothing."""
    for folder in (
        "/usr/lib/x86_64-linux-gnu",
        f"/usr/lib/{os.uname().machine}-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ):
        place = Path(folder) / str(SHARED)
        if place.exists():
            return Path(shutil.copy(place, tmp_path / "notes.bin"))
    pytest.skip("there is no libcrypto here")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may read; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def look(monkeypatch: pytest.MonkeyPatch, reader: Callable[[], Reader] = QueryReader) -> Scan:
    """One scan of this host by one rung."""
    with monkeypatch.context() as patch:
        patch.setattr(census, "QueryReader", reader)
        return processes.scan(Host())


def below(scan: Scan, folder: Path) -> list[Entry]:
    """Entries whose library stands below a folder, by key."""
    found = [entry for entry in scan.entries if str(entry.where.path).startswith(f"{folder}/")]
    return sorted(found, key=lambda entry: entry.key)


def use_of(entry: Entry) -> LibraryUse:
    """Its asset."""
    assert isinstance(entry.asset, LibraryUse)
    return entry.asset


def readelf_build_id(path: Path) -> str:
    """What readelf prints."""
    said = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    match = re.search(r"Build ID: ([0-9a-f]+)", said)
    assert match is not None
    return match[1]


@pytest.fixture
def query_offered() -> None:
    """Skip where this kernel is older than the request."""
    with open("/proc/self/maps", "rb") as page:
        try:
            QueryReader().executable(page.fileno(), "/proc/self/maps", {})
        except NotOfferedError as error:
            pytest.skip(str(error))


@READERS
def test_a_process_that_loads_gnutls_is_found_with_all_that_ldd_says_it_brings(
    reader: Callable[[], Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the dynamic linker itself."""
    gnutls = ctypes.util.find_library("gnutls")
    if gnutls is None or shutil.which("ldd") is None:
        pytest.skip("there is no GnuTLS or no ldd here")
    with child(gnutls) as pid:
        # Given the crypto libraries that really are mapped, as the linker resolves them for GnuTLS
        listing = Path(f"/proc/{pid}/maps").read_text()
        path = next(line.split()[-1] for line in listing.splitlines() if "libgnutls" in line)
        said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        needed = {os.path.realpath(line.split()[2]) for line in said.splitlines() if "=> /" in line}
        crypto = {one for one in needed if re.search(r"lib(nettle|hogweed|p11-kit)\.so", one)} | {path}
        assert len(crypto) >= 2

        scan = look(monkeypatch, reader)

    found = {entry.where.path: entry for entry in scan.entries if entry.where.exe == PYTHON}
    assert crypto <= found.keys()
    assert (use_of(found[path]).family, use_of(found[path]).soname) == ("gnutls", gnutls)
    assert use_of(found[path]).build_id == readelf_build_id(Path(path))


@READERS
def test_a_deleted_copy_is_told_by_what_is_mapped(
    reader: Callable[[], Reader], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path means another file now; what runs is the old one."""
    build_id = readelf_build_id(library)
    other = shutil.copy(shutil.which("true") or "/bin/true", library.with_name("other"))
    with child(library):
        os.replace(other, library)
        found = below(look(monkeypatch, reader), library.parent)
        if os.geteuid() != 0 and not found:
            pytest.skip("without CAP_CHECKPOINT_RESTORE nobody may open what was deleted")

    assert [entry.key for entry in found] == [f"{PYTHON} {label(found)} {library} (deleted)"]
    assert (use_of(found[0]).deleted, use_of(found[0]).build_id) == (True, build_id)
    assert found[0].where.package is None


def label(found: list[Entry]) -> str:
    """Where the tests themselves run, by the scanner's word; test_cgroup.py has what it must be."""
    return found[0].key.split(" ")[1]


@pytest.mark.usefixtures("query_offered")
def test_both_rungs_give_the_same_entries(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel upgrade must not look like a change of the host."""
    # Given copies of every name that is hard to read
    names = [
        b"plain.so",
        b"a b .so",
        b"\xff\xfe.so",
        b"new\nline.so",
        rb"back\012slash.so",
        b"real (deleted)",
        b"gone.so",
    ]
    places = [os.path.join(os.fsencode(library.parent), name) for name in names]
    for place in places:
        shutil.copy(os.fsencode(library), place)
    with child(*places):
        os.unlink(places[-1])
        by_query, by_text = (
            below(look(monkeypatch, reader), library.parent) for reader in (QueryReader, TextReader)
        )

    assert by_query == by_text
    expected = {r"\xff\xfe.so", r"back\\012slash.so", "plain.so", "a b .so", "new\nline.so", "real (deleted)"}
    deleted = {str(entry.where.path).rpartition("/")[2] for entry in by_query if use_of(entry).deleted}
    kept = {str(entry.where.path).rpartition("/")[2] for entry in by_query if not use_of(entry).deleted}
    assert kept == expected
    if os.geteuid() == 0:
        assert deleted == {"gone.so"}


@READERS
def test_what_is_mapped_and_is_no_library_gives_no_entry(
    reader: Callable[[], Reader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text by a likely name, and a device, both mapped to be executed."""
    text = tmp_path / "libcrypto.so.3"
    text.write_bytes(b"OpenSSL 3.0.19 27 Jan 2026".ljust(8192))
    code = CHILD.replace(
        "libraries = [ctypes.CDLL(name) for name in sys.argv[1:]]",
        "import mmap\n"
        "kept = [mmap.mmap(os.open(name, 2), 4096, flags=mmap.MAP_PRIVATE, prot=5) for name in sys.argv[1:]]",
    )
    with child(text, "/dev/zero", code=code) as pid:
        page = Path(f"/proc/{pid}/maps").read_text()
        assert re.search(r"r-xp .* /dev/zero", page)
        assert f"{text}\n" in page
        scan = look(monkeypatch, reader)

    assert below(scan, tmp_path) == []
    assert [entry for entry in scan.entries if entry.where.path == "/dev/zero"] == []


@pytest.mark.root
@READERS
def test_a_library_that_stands_in_memory_alone_is_read_from_there(
    reader: Callable[[], Reader], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never had a path; that is not the same as deleted."""
    code = CHILD.replace(
        "libraries =",
        "fd = os.memfd_create('carried')\n"
        "os.write(fd, open(sys.argv[1], 'rb').read())\n"
        "carried = ctypes.CDLL(f'/proc/self/fd/{fd}')\n"
        "sys.argv = sys.argv[:1]\n"
        "libraries =",
    )
    with child(library, code=code):
        scan = look(monkeypatch, reader)

    (entry,) = [entry for entry in scan.entries if entry.where.path == "/memfd:carried"]
    assert (use_of(entry).name, use_of(entry).deleted) == ("libcrypto", False)
    assert use_of(entry).build_id == readelf_build_id(library)


@pytest.mark.root
@READERS
def test_a_file_of_another_mount_namespace_is_read_where_it_is(
    reader: Callable[[], Reader], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the path is the container's; the host has nothing there, or something else."""
    inside = Path("/mnt/inside")
    script = f'mount -t tmpfs none {inside.parent} && cp "$0" {inside} && exec "$@" {inside}'
    prefix = ("unshare", "--mount", "sh", "-c", script, str(library))
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this kernel refuses a mount namespace: {probe.stderr.strip()}")
    with child(prefix=prefix):
        assert not inside.exists()
        scan = look(monkeypatch, reader)

    (entry,) = [entry for entry in scan.entries if entry.where.path == str(inside)]
    assert (use_of(entry).name, use_of(entry).deleted) == ("libcrypto", False)
    assert entry.where.package is None


@pytest.mark.root
def test_what_lies_on_a_network_file_system_is_not_opened(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is down would hold the agent up; a FUSE mount counts as one."""
    # Given a mount table that says so of the library's device
    real = Path("/proc/self/mountinfo").read_bytes()
    device = os.stat(library).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    listed = re.sub(rb"(?m)^(\d+ \d+ %s .* - )\S+ " % number.encode(), rb"\1nfs4 ", real)
    assert listed != real, "the device of the temporary directory is in the mount table"
    read = Host.read

    def pretend(host: Host, path: str, *rest: int) -> bytes:
        return listed if path.endswith("/mountinfo") else read(host, path, *rest)

    monkeypatch.setattr(Host, "read", pretend)
    opened: list[str] = []
    stat = Host.stat

    def noted(host: Host, path: str, *, follow: bool = True) -> os.stat_result:
        opened.append(path)
        return stat(host, path, follow=follow)

    monkeypatch.setattr(Host, "stat", noted)
    with child(library) as pid:
        scan = look(monkeypatch)

    assert below(scan, library.parent) == []
    assert scan.skipped["network_fs"] >= 1
    assert scan.status == "partial"
    assert not [path for path in opened if path.startswith((f"/proc/{pid}/map_files/", f"/proc/{pid}/root"))]


@pytest.mark.root
def test_nobody_sees_his_own_and_says_what_he_does_not_see(
    library: Path, house: Path, open_folder: Path
) -> None:
    """Without privilege the section is partial; empty and complete would be a lie."""
    # Given a process of root's and one of nobody's, and a scan by nobody
    code = f"""
import json, os, sys
sys.path.insert(0, {str(house)!r})
from agent import redact
from agent.disk import packages
from agent.host import Host
from agent.scanners import processes
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
scan = processes.scan(Host())
paths = [entry.where.path for entry in scan.entries]
print(json.dumps([scan.status, scan.reason, scan.skipped, paths, scan.examples]))
"""
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    mine, roots = (shutil.copy(library, open_folder / name) for name in ("mine.bin", "roots.bin"))
    with child(roots), child(mine, prefix=as_nobody):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
        )

    status, reason, skipped, paths, examples = json.loads(done.stdout)
    assert status == "partial"
    assert skipped["denied"] >= 1
    assert f"{skipped['denied']} not permitted" in reason
    assert str(mine) in paths
    assert str(roots) not in paths
    assert all(re.match(r"[a-z_]+: ", example) for example in examples)


def test_the_counts_are_those_of_this_host(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry for a use, and one more process in the count."""
    with child(library), child(library):
        before = look(monkeypatch)
        with child(library):
            after = look(monkeypatch)

    assert len(below(before, library.parent)) == len(below(after, library.parent)) == 1
    assert after.live["processes_with_crypto"] >= 3
    assert after.live["processes"] >= after.live["processes_with_crypto"]
