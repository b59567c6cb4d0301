# SPDX-License-Identifier: Apache-2.0
"""All ways to look at real processes say the same of libraries, open files and processes, and it is true."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.guard.sandbox import Sandbox
from agent.host import Host
from agent.scanners import Scan, processes
from agent.survey import census, census_pages
from agent.survey.descriptors import DESCRIPTORS_MAX
from agent.survey.pages import Pages
from agent.survey.process import HeldFile, Process
from agent.survey.procmap import NotOfferedError, QueryReader, TextReader
from tests.agent import openssl

pytestmark = [pytest.mark.root, pytest.mark.kernel]

# Opens files and loads libraries as it is told, in this order, says so and waits to be told to end. It dies
# with this test in any case. A number before a file is how many descriptors it gets.
CHILD = """
import ctypes, os, resource, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for word in sys.argv[1:]:
    kind, _, name = word.partition(":")
    if kind == "library":
        kept.append(ctypes.CDLL(name))
    elif kind == "memory":
        fd = os.memfd_create("carried")
        os.write(fd, open(name, "rb").read())
        kept.append(fd)
    elif kind == "unnamed":
        fd = os.open(name, os.O_TMPFILE | os.O_RDWR)
        os.write(fd, open(sys.argv[1].partition(":")[2], "rb").read())
    elif kind == "name":
        open("/proc/self/comm", "w").write(name)
    else:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        if kind == "gone":
            os.unlink(name)
        for _ in range(int(kind) - 1 if kind.isdigit() else 0):
            os.dup(fd)
print("ready", flush=True)
sys.stdin.read()
"""
PYTHON = os.path.realpath("/proc/self/exe")
NOBODY = 65534
RUNGS = ("bpf-iterators", "procmap-query", "maps-text")
CRYPTO = re.compile(r"/lib(?:ssl|crypto|gnutls|nettle|hogweed|gcrypt|p11-kit|krb5|k5crypto|gssapi_krb5)[-.]")

Look = Callable[[], Scan]


@contextlib.contextmanager
def child(*words: str, prefix: Sequence[str] = (), cwd: Path | None = None) -> Iterator[int]:
    """A process that has these; gives its pid."""
    argv = [*prefix, PYTHON, "-I", "-S", "-c", CHILD, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def look_by(rung: str, monkeypatch: pytest.MonkeyPatch, host: Host | None = None) -> Scan:
    """One scan of this host by one rung; skipped with its own reason where there is none."""
    with monkeypatch.context() as patch:
        patch.setattr(processes, "ITERATORS_FROM", 0 if rung == "bpf-iterators" else 1 << 30)
        patch.setattr(census, "QueryReader", TextReader if rung == "maps-text" else QueryReader)
        scan = processes.scan(host or Host())
    if scan.rung != rung:
        pytest.skip(f"{rung}: {scan.rung_reason}")
    return scan


@pytest.fixture(params=RUNGS)
def look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Each way in turn."""
    return lambda: look_by(request.param, monkeypatch)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, an OpenSSH key and libcrypto, all by names that say nothing."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "made").mkdir()
    (folder / "certificate").write_bytes(openssl.make(folder / "made", "/CN=web").certificate)
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "key"], check=True, timeout=30
    )
    shutil.copy(folder / "key", folder / "id_rsa")
    (folder / "nothing").write_text("nothing of ours\n")
    library = ctypes.util.find_library("crypto")
    for place in Path("/proc/self/maps").read_text().split():
        if library and place.endswith(f"/{library}"):
            shutil.copy(place, folder / "library")
    if not (folder / "library").exists():
        pytest.skip("this interpreter has no libcrypto mapped")
    return folder


def of(scan: Scan, pid: int) -> Process:
    """The process of that number."""
    (found,) = [one for one in scan.processes if one.pid == pid]
    return found


def held(process: Process) -> list[tuple[str, bool, str]]:
    """Its files: name, whether it is gone, type."""
    return [(one.path.rpartition("/")[2], one.deleted, one.file_type) for one in process.files]


def copy(material: Path, name: str, folder: Path, as_name: str | None = None) -> str:
    """A copy of one of the files, by another name."""
    return str(shutil.copy(material / name, folder / (as_name or name)))


# -- what is seen --------------------------------------------------------------------------------------------


def test_files_are_told_by_what_is_in_them(look: Look, material: Path, tmp_path: Path) -> None:
    """Content first, names last: a key by a name that tells nothing, nothing by a name that tells much."""
    given = [
        copy(material, "id_rsa", tmp_path),
        copy(material, "certificate", tmp_path, "site.bin"),
        copy(material, "nothing", tmp_path, "a.PEM"),
        copy(material, "nothing", tmp_path, "notes.txt"),
    ]
    with child(*(f"open:{one}" for one in given)) as pid:
        found = of(look(), pid)

    assert held(found) == [
        ("a.PEM", False, "unknown"), ("id_rsa", False, "private_key"), ("site.bin", False, "certificate"),
    ]  # fmt: skip


def test_files_that_have_gone_are_read_through_the_descriptor(
    look: Look, material: Path, tmp_path: Path
) -> None:
    """Two of one name: each is what it is, and the second is not taken for the first."""
    with contextlib.ExitStack() as stack:
        pids = []
        for name in ("certificate", "key", "nothing"):
            gone = copy(material, name, tmp_path, "gone.bin")
            pids.append(stack.enter_context(child(f"gone:{gone}", f"library:{material}/library")))
        kept = copy(material, "key", tmp_path, "kept (deleted)")
        pids.append(stack.enter_context(child(f"open:{kept}")))
        scan = look()

    assert [held(of(scan, pid)) for pid in pids] == [
        [("gone.bin", True, "certificate")],
        [("gone.bin", True, "private_key")],
        [],
        [("kept (deleted)", False, "private_key")],
    ]


def test_a_key_that_stands_in_memory_alone_is_found(look: Look, material: Path) -> None:
    """Which is how one hides it from a look at the disk."""
    with child(f"memory:{material}/key") as pid:
        found = of(look(), pid)

    assert [(one.path, one.deleted, one.file_type) for one in found.files] == [
        ("/memfd:carried", False, "private_key")
    ]


def test_equal_paths_in_two_mount_namespaces_are_two_files(
    look: Look, material: Path, tmp_path: Path
) -> None:
    """In two containers /etc/tls/tls.key are two keys, or one of them is none."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this kernel refuses a mount namespace: {probe.stderr.strip()}")
    place = tmp_path / "mounted"
    place.mkdir()
    script = f'mount -t tmpfs none {place} && cp "$0" {place}/held && exec "$@" open:{place}/held'
    with contextlib.ExitStack() as stack:
        pids = [
            stack.enter_context(
                child(prefix=("unshare", "--mount", "sh", "-c", script, str(material / name)))
            )
            for name in ("key", "certificate", "nothing")
        ]
        scan = look()
        found = {one.pid: one for one in scan.processes}

    assert [one.file_type for one in found[pids[0]].files] == ["private_key"]
    assert [one.file_type for one in found[pids[1]].files] == ["certificate"]
    assert pids[2] not in found
    # A service of the host's own may have mounts of its own, and is no other root for that.
    assert found[pids[0]].container is None


def test_another_root_without_a_container_is_not_taken_for_the_hosts(
    look: Look, material: Path, tmp_path: Path
) -> None:
    """Its /usr/lib is another than the host's, though its unit is one of the host's."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this kernel refuses a mount namespace: {probe.stderr.strip()}")
    # Given a tmpfs with the whole host inside it, as its root, and a library that is not the host's
    root = tmp_path / "root"
    root.mkdir()
    script = (
        f"mount -t tmpfs none {root} && mkdir {root}/host && mount --rbind / {root}/host"
        f' && cp "$0" {root}/library && for d in usr proc dev etc; do mkdir {root}/$d &&'
        f" mount --rbind /$d {root}/$d; done; for d in bin lib lib64; do ln -s usr/$d {root}/$d; done;"
        f' exec chroot {root} "$@" library:/library'
    )
    if not PYTHON.startswith("/usr/"):
        pytest.skip(f"the interpreter is {PYTHON}, which is not below /usr")
    with child(prefix=("unshare", "--mount", "sh", "-c", script, str(material / "library"))) as pid:
        scan = look()
        found = of(scan, pid)

    assert found.container == "other-root"
    # The kernel tells paths from the root of the mount namespace, not from that of the process.
    assert f"{root}/library" in [one.path for one in found.libraries]
    keys = [entry.key for entry in scan.entries if entry.where.path == f"{root}/library"]
    assert len(keys) == 1
    assert " other-root" in keys[0]


def test_a_file_that_never_had_a_name_is_read_through_the_descriptor(
    look: Look, material: Path, tmp_path: Path
) -> None:
    """A key in an O_TMPFILE: its flags have the bit that directories have."""
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError as error:
        pytest.skip(f"the file system of {tmp_path} refuses O_TMPFILE: {error.strerror}")
    with child(f"open:{material}/key", f"unnamed:{tmp_path}") as pid:
        found = of(look(), pid)

    (unnamed,) = [one for one in found.files if one.path.startswith(f"{tmp_path}/#")]
    assert (unnamed.deleted, unnamed.file_type) == (True, "private_key")


# -- against others' words -----------------------------------------------------------------------------------


def test_a_process_has_the_libraries_that_lsof_says(look: Look) -> None:
    """By a program that we did not write."""
    if shutil.which("lsof") is None:
        pytest.skip("lsof is not installed")
    names = [one for name in ("ssl", "gnutls", "gssapi_krb5") if (one := ctypes.util.find_library(name))]
    with child(*(f"library:{one}" for one in names)) as pid:
        said = subprocess.run(["lsof", "-p", str(pid), "-Fn"], capture_output=True, text=True, check=False)
        found = of(look(), pid)

    expected = {line[1:] for line in said.stdout.splitlines() if line[:1] == "n" and CRYPTO.search(line)}
    assert len(expected) >= len(names) > 0
    assert {one.path for one in found.libraries} == expected


def test_a_process_is_who_the_kernel_says(look: Look, material: Path) -> None:
    """Number and start tell it from any other for ever; its name may be any bytes."""
    as_nobody = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=-all")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        key = Path(copy(material, "key", folder))
        key.chmod(0o644)
        with child(f"open:{key}", "name:a b) S 1", prefix=as_nobody) as pid:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found = of(look(), pid)
    finally:
        shutil.rmtree(folder)

    assert (found.start_ticks, found.uid, found.name) == (int(stat[19]), NOBODY, "a b) S 1")
    assert found.exe == PYTHON


# -- all ways the same ---------------------------------------------------------------------------------------


def test_all_rungs_say_the_same_of_a_population(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel upgrade must not look like a change of the host, nor a host that grows."""
    links = [tmp_path / "link_a.so", tmp_path / "link_b.so"]
    shutil.copy(material / "library", links[0])
    os.link(links[0], links[1])
    odd = [tmp_path / name for name in ("new\nline.so", "back\\012slash.so", "a b.so", "real (deleted)")]
    odd.append(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.so")))
    for one in odd:
        shutil.copy(material / "library", one)
    gone = copy(material, "library", tmp_path, "gone.so")
    files = [copy(material, "key", tmp_path, name) for name in ("k\n1", "k 2", "k.pem")]
    with contextlib.ExitStack() as stack:
        given = [
            [f"library:{links[0]}"],
            [f"library:{links[1]}", f"open:{files[0]}"],
            [f"library:{os.fsdecode(one)}" for one in odd],
            [f"library:{gone}", f"memory:{material}/key", f"3:{files[1]}"],
            [f"open:{one}" for one in (*files, "/proc/self/status", "/dev/null", "/etc")],
            ["open:/etc/hostname"],
        ]
        pids = [stack.enter_context(child(*words)) for words in given]
        os.unlink(gone)
        # Stopped processes are looked at like any other; what has ended has nothing to look at.
        os.kill(pids[0], signal.SIGSTOP)
        scans = {rung: look_by(rung, monkeypatch) for rung in RUNGS}

    told = {
        rung: (
            [one for one in scan.processes if one.pid in pids],
            sorted(
                (e for e in scan.entries if str(e.where.path).startswith(str(tmp_path))), key=lambda e: e.key
            ),
        )
        for rung, scan in scans.items()
    }
    assert told["bpf-iterators"] == told["procmap-query"] == told["maps-text"]
    listed, entries = told["maps-text"]
    assert [one.pid for one in listed] == sorted(pids[:-1])
    assert len(entries) == 2 + len(odd) + 1
    assert [len(one.files) for one in sorted(listed, key=lambda one: pids.index(one.pid))] == [0, 1, 0, 2, 3]


@pytest.mark.parametrize("rung", RUNGS)
def test_what_reads_the_files_may_be_another_process(
    rung: str, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found bytes never reach the process with the privilege; and that other one is not listed itself."""
    host = Host(parser=(sandbox := Sandbox()))
    try:
        with child(f"library:{material}/library", f"open:{material}/key") as pid:
            scan = look_by(rung, monkeypatch, host)
        assert [one.file_type for one in of(scan, pid).files] == ["private_key"]
        assert f"{material}/library" in [one.path for one in of(scan, pid).libraries]
        assert not {one.pid for one in scan.processes} & {os.getpid(), *sandbox.pids}
    finally:
        sandbox.close()


# -- what hinders --------------------------------------------------------------------------------------------


def test_a_zombie_and_a_stopped_process_do_not_hold_the_look_up(look: Look, material: Path) -> None:
    """The one has nothing any more, the other everything."""
    zombie = os.fork()
    if not zombie:
        os._exit(0)
    try:
        with child(f"open:{material}/key") as pid:
            os.kill(pid, signal.SIGSTOP)
            scan = look()
    finally:
        os.waitpid(zombie, 0)

    assert held(of(scan, pid)) == [("key", False, "private_key")]
    assert zombie not in [one.pid for one in scan.processes]


def test_a_process_without_its_first_thread_is_counted(look: Look) -> None:
    """The kernel shows nothing of it by its number, and it goes on all the same: that is not complete."""
    code = (
        "import ctypes, os, signal, sys, threading\n"
        "libc = ctypes.CDLL(None)\nlibc.prctl(1, signal.SIGKILL)\n"
        "open('/proc/self/comm', 'w').write('headless')\n"
        "def rest():\n"
        "    while b') Z ' not in open(f'/proc/{os.getpid()}/stat', 'rb').read(): pass\n"
        "    print('ready', flush=True)\n    sys.stdin.read()\n    os._exit(0)\n"
        "threading.Thread(target=rest).start()\nlibc.pthread_exit(None)\n"
    )
    before = look()
    with subprocess.Popen(
        [PYTHON, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert not Path(f"/proc/{process.pid}/maps").read_bytes()
            scan = look()
        finally:
            process.kill()

    told = "unreadable: process whose first thread has ended: headless"
    assert told not in before.examples
    assert told in scan.examples
    assert scan.status == "partial"


@pytest.mark.parametrize("rung", RUNGS)
def test_who_may_more_sees_no_less(rung: str, material: Path, house: Path) -> None:
    """What a process of root's denies, a process of one's own shows; CAP_PERFMON shows who has it mapped."""
    # Given a library that root's processes map first, one's own last, and one that only root's map
    code = f"""
import json, sys
sys.path.insert(0, {str(house)!r})
from agent.host import Host
from agent.scanners import processes
from agent.survey import census, procmap
processes.ITERATORS_FROM = 0 if {rung!r} == "bpf-iterators" else 1 << 30
if {rung!r} == "maps-text":
    census.QueryReader = procmap.TextReader
asked = []
real = Host.open_regular
def noted(host, path):
    asked.append(path)
    return real(host, path)
Host.open_regular = noted
scan = processes.scan(Host())
print(json.dumps([
    scan.rung, scan.rung_reason, [(one.pid, held.path) for one in scan.processes for held in one.libraries],
    scan.skipped, asked,
]))
"""
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    probe = subprocess.run([*nobody, "test", "-r", house / "agent" / "host.py"], check=False)
    if probe.returncode:
        pytest.skip(f"nobody may not read {house}")
    given = {
        "less": [*nobody, "--inh-caps=-all"],
        "more": [
            *nobody, "--inh-caps=-all,+cap_39,+cap_38", "--ambient-caps=-all,+cap_39,+cap_38",
        ],
    }  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        shared = copy(material, "library", folder, "shared.bin")
        hidden = copy(material, "library", folder, "hidden.bin")
        with contextlib.ExitStack() as stack:
            # More than there are tries for one file
            roots = [stack.enter_context(child(f"library:{shared}", f"library:{hidden}")) for _ in range(10)]
            own = stack.enter_context(child(f"library:{shared}", prefix=given["less"]))
            told = {}
            for name, prefix in given.items():
                done = subprocess.run(
                    [*prefix, sys.executable, "-c", code],
                    capture_output=True,
                    text=True,
                    check=False,
                    cwd="/",
                )
                assert done.returncode == 0, done.stderr
                told[name] = json.loads(done.stdout)
    finally:
        shutil.rmtree(folder)

    used, reason, more, skipped, asked = told["more"]
    if used != rung:
        pytest.skip(f"{rung}: {reason}")
    # Then nobody loses his own, and is not told what no process has shown
    assert [own, shared] in told["less"][2]
    assert [own, shared] in more
    assert hidden not in [path for _, path in more]
    assert skipped["denied"] >= 1
    # And root's processes are not tried for each of their files again
    tried = [path for path in asked if path.startswith(tuple(f"/proc/{pid}/" for pid in roots[1:]))]
    assert len(tried) == 0, tried
    if rung == "bpf-iterators" and any(f"/proc/{pid}/map_files" in path for pid in roots for path in asked):
        # The kernel shows who has it mapped: what it is, one's own process has shown.
        assert [one for one in roots if [one, shared] in more] == roots


def test_descriptors_beyond_the_limit_are_counted(
    look: Look, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hides a key behind a hundred thousand others unnoticed."""
    for module in (processes, census_pages):
        monkeypatch.setattr(module, "DESCRIPTORS_MAX", 20)
    with child(f"open:{material}/certificate", f"30:{material}/nothing", f"open:{material}/key") as pid:
        scan = look()

    assert held(of(scan, pid)) == [("certificate", False, "certificate")]
    assert scan.skipped["budget"] >= 1
    assert scan.status == "partial"
    assert any(re.match("budget: descriptors of process ", one) for one in scan.examples)


@pytest.mark.slow
def test_a_process_with_very_many_descriptors_ends_at_the_limit(look: Look, material: Path) -> None:
    """With the real limit, and as many as this machine lets a process have; what stands first is found."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(100_000, hard - 100)
    if count <= DESCRIPTORS_MAX:
        pytest.skip(f"nobody here may have more than {hard} descriptors")
    with child(f"open:{material}/key", f"{count}:{material}/nothing") as pid:
        assert len(os.listdir(f"/proc/{pid}/fd")) > count
        scan = look()

    assert held(of(scan, pid)) == [("key", False, "private_key")]
    assert scan.skipped["budget"] >= 1


def test_no_fifo_socket_or_device_is_opened(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening does things: a tape rewinds, a watchdog starts, whoever waits at a FIFO goes on."""
    fifo = tmp_path / "a.pem"
    os.mkfifo(fifo)
    opened: list[str] = []
    real = Host.open_regular

    def noted(host: Host, path: str) -> int | None:
        fd = real(host, path)
        if fd is not None:
            opened.append(os.readlink(f"/proc/self/fd/{fd}"))
        return fd

    monkeypatch.setattr(Host, "open_regular", noted)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.pem"))
        with child(f"open:{fifo}", "open:/dev/zero", f"open:{tmp_path}") as pid:
            scan = look()

    assert pid not in [one.pid for one in scan.processes]
    assert not {str(fifo), "/dev/zero", str(tmp_path)} & set(opened)
    # A FIFO without a reader refuses who only wants to write.
    with pytest.raises(OSError, match="No such device"):
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)


def test_a_file_on_a_network_file_system_is_not_touched(
    look: Look, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may be down; only its name is told, if that says enough."""
    real = Path("/proc/self/mountinfo").read_bytes()
    device = os.stat(material).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    listed = re.sub(rb"(?m)^(\d+ \d+ %s .* - )\S+ " % number.encode(), rb"\1nfs4 ", real)
    assert listed != real
    read, opened = Host.read, []
    open_regular = Host.open_regular

    def pretend(host: Host, path: str, *rest: int) -> bytes:
        return listed if path.endswith("/mountinfo") else read(host, path, *rest)

    def noted(host: Host, path: str) -> int | None:
        opened.append(path)
        return open_regular(host, path)

    monkeypatch.setattr(Host, "read", pretend)
    monkeypatch.setattr(Host, "open_regular", noted)
    named = copy(material, "key", material, "far.pem")
    with child(f"open:{material}/key", f"open:{named}") as pid:
        scan = look()

    assert held(of(scan, pid)) == [("far.pem", False, "unknown")]
    assert not [path for path in opened if path.startswith(f"/proc/{pid}/")]
    assert scan.skipped["network_fs"] >= 1


@pytest.mark.parametrize("is_device_listed", [True, False])
def test_of_a_mount_that_no_table_lists_only_a_regular_file_can_be_hidden(
    look: Look, material: Path, monkeypatch: pytest.MonkeyPatch, is_device_listed: bool
) -> None:
    """/dev/null of the mount namespace that one was started from is in every container and hides no key."""
    read, opened = Host.read, []
    open_regular = Host.open_regular
    # Mounts by numbers that no file has, and where it is asked for, of devices that none has; and no disks.
    form = rb"9\1 9\2 \3" if is_device_listed else rb"9\1 9\2 9\3"
    monkeypatch.setattr("agent.survey.descriptors.of_unlisted", lambda _device: "foreign")

    def pretend(host: Host, path: str, *rest: int) -> bytes:
        page = read(host, path, *rest)
        return re.sub(rb"(?m)^(\d+) (\d+) (\d+)", form, page) if path.endswith("/mountinfo") else page

    def noted(host: Host, path: str) -> int | None:
        opened.append(path)
        return open_regular(host, path)

    monkeypatch.setattr(Host, "read", pretend)
    monkeypatch.setattr(Host, "open_regular", noted)
    named = copy(material, "key", material, "near.pem")
    with child("open:/dev/null", f"open:{material}", f"open:{named}") as pid:
        scan = look()

    touched = [path for path in opened if path.startswith(f"/proc/{pid}/fd/")]
    assert held(of(scan, pid)) == [("near.pem", False, "private_key" if is_device_listed else "unknown")]
    assert bool(touched) is is_device_listed
    assert not [one for one in scan.examples if "/dev/null" in one or one.endswith(str(material))]
    assert bool(scan.skipped.get("network_fs")) is not is_device_listed


def test_nobody_is_told_what_hidepid_hides(house: Path) -> None:
    """In such a /proc nobody refuses anything: there is nothing to see, and that must be said."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(house)!r})\n"
        "from agent.host import Host\nfrom agent.scanners import processes\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "scan = processes.scan(Host())\nprint(scan.status, scan.skipped, scan.examples)"
    )
    script = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("partial")
    assert "hidepid" in done.stdout


def test_a_number_that_is_used_again_is_another_process() -> None:
    """What is read after a process has ended must not be its successor's."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not last.exists():
        pytest.skip("this kernel cannot be told the next number (CONFIG_CHECKPOINT_RESTORE)")
    first = os.fork()
    if not first:
        os._exit(os.read(os.pipe()[0], 1) == b"")
    with Pages(Host(), first) as pages:
        assert pages.read("stat").startswith(b"%d (" % first)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        # Others may take numbers meanwhile, so it is tried a few times.
        for _ in range(200):
            last.write_text(str(first - 1))
            second = os.fork()
            if not second:
                os._exit(os.read(os.pipe()[0], 1) == b"")
            try:
                if second == first:
                    for name in ("stat", "status", "maps"):
                        with pytest.raises(errors.VanishedError):
                            pages.read(name)
                    with pytest.raises(errors.VanishedError):
                        pages.link("exe")
                    return
            finally:
                os.kill(second, signal.SIGKILL)
                os.waitpid(second, 0)
    pytest.skip(f"the number {first} was never given again")


def test_the_kernels_own_refusal_is_the_reason_for_the_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slower look says why, and with what it would be quicker."""
    with open("/proc/self/maps", "rb") as page:
        try:
            QueryReader().executable(page.fileno(), "/proc/self/maps", {})
        except NotOfferedError as error:
            pytest.skip(str(error))
    monkeypatch.setattr("agent.kernel.preflight.BTF", "/nowhere")
    monkeypatch.setattr(processes, "ITERATORS_FROM", 0)

    scan = processes.scan(Host())

    assert scan.rung == "procmap-query"
    assert scan.rung_reason is not None
    assert "no BPF iterators" in scan.rung_reason
    assert "/nowhere" in scan.rung_reason


def test_a_held_file_is_told_once_however_often_it_is_open(look: Look, material: Path) -> None:
    """Servers open a certificate for each listener."""
    with child(f"7:{material}/certificate", f"open:{material}/certificate") as pid:
        found = of(look(), pid)

    assert found.files == (
        HeldFile(path=f"{material}/certificate", file_type="certificate", file_kind="certificate"),
    )
