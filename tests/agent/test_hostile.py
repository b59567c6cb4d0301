# SPDX-License-Identifier: Apache-2.0
"""A host whose users mean ill: the document stays one, the exit code a documented one, what is left is said.

On hosts that are directories, and on this machine with real processes.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent import document, errors, run
from agent.host import Host
from agent.model import canonical, schema
from agent.model.inventory import decode_manifest, decode_part, decode_sealed
from agent.redact import People, Printed
from tests.agent import openssl
from tests.agent.cli import commands
from tests.agent.fake_host import LIBCRYPTO, LIBSSL, FakeHost

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))
MIB = 1 << 20
# Names that a terminal, a log, a shell, JSON or ourselves could stumble over.
NAMES = (
    b"new\nline", b"tab\tand\rreturn", b'quo"te\'s', b"\x1b[31mred\x1b[0m", b"\x1b]0;title\x07", b"\xff\xfe",
    b"caf\xe9", "\u202egnp.exe".encode(), b"\xed\xa0\x80", b"back\\slash\\", b"$(id)`id`", b"a (deleted)",
    b"(deleted)", b" ", b"-rf", b"S 1 1) R 0 (", b"{{7*7}}", b"%s%n", b"\x7f\x80\x9f",
)  # fmt: skip


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate."""
    return openssl.make(tmp_path_factory.mktemp("openssl"), "/CN=web").certificate


@pytest.fixture
def web(tmp_path: Path, pem: bytes) -> FakeHost:
    """A host with one certificate of its own and one process; whatever else there is, these are found."""
    web = FakeHost(tmp_path / "web")
    web.file("/etc/ssl/own.pem", pem)
    web.process(10)
    return web


def check(done: commands.Done) -> dict[str, Any]:
    """The document of a command, which is one by every reader; its words obey no name."""
    assert done.returncode in (0, errors.EXIT_PRIVILEGE, errors.EXIT_PARTIAL), done.stderr
    for line in commands.said(done):
        assert line.isprintable(), line
    snapshot: dict[str, Any] = json.loads(done.stdout)
    inventory = json.dumps(snapshot["inventory"]).encode()
    assert list(VALIDATOR.iter_errors(snapshot["inventory"])) == []
    sealed = decode_sealed(inventory)
    decode_manifest(bytes(sealed.manifest))
    for part in snapshot["inventory"]["parts"].values():
        assert decode_part(canonical.encode(part))
    for state in snapshot["inventory"]["manifest"]["sections"].values():
        assert "bug" not in state.get("reason", "")
    return snapshot


def look(web: FakeHost, *words: str) -> dict[str, Any]:
    """The document of that host, in which what was there before is still found."""
    snapshot = check(commands.run("snapshot", "--root", web.root, *words))
    keys = {entry["key"] for part in snapshot["inventory"]["parts"].values() for entry in part}
    assert "/etc/ssl/own.pem" in keys
    assert f"/usr/sbin/nginx nginx.service {LIBSSL}" in keys
    return snapshot


def section(snapshot: dict[str, Any], name: str) -> dict[str, Any]:
    """The state of one."""
    found: dict[str, Any] = snapshot["inventory"]["manifest"]["sections"][name]
    return found


# -- names ---------------------------------------------------------------------------------------------------


def test_no_name_of_a_process_breaks_the_document(web: FakeHost) -> None:
    """comm and the path of the executable are whatever their owner likes."""
    for number, name in enumerate(NAMES, 100):
        web.process(number, name[:15], exe=b"/opt/" + name, fds=[b"/srv/" + name + b".pem"])

    listed = {one["pid"]: one for one in look(web)["processes"]}

    for number, name in enumerate(NAMES, 100):
        one = listed[number]
        assert canonical.unescape_text(one["name"]) == name[:15]
        assert canonical.unescape_text(one["exe"]).removesuffix(b" (deleted)") == (
            b"/opt/" + name
        ).removesuffix(b" (deleted)")
        assert [canonical.unescape_text(path) for path in one["open_crypto_files"]] == [
            b"/srv/" + name + b".pem"
        ]


def test_no_name_of_a_file_breaks_the_document(web: FakeHost, pem: bytes) -> None:
    """A certificate is found under each, and none loses another."""
    for name in NAMES:
        web.file(b"/etc/ssl/" + name, pem)

    snapshot = look(web)

    paths = {
        canonical.unescape_text(entry["where"]["path"])
        for part in snapshot["inventory"]["parts"].values()
        for entry in part
        if entry["asset"]["kind"] == "certificate"
    }
    assert paths == {b"/etc/ssl/own.pem", *(b"/etc/ssl/" + name for name in NAMES)}


def test_what_is_said_about_odd_names_is_shown_not_obeyed(web: FakeHost) -> None:
    """On standard error, in the summary, and in the coverage."""
    if os.geteuid() == 0:
        commands.may_be_nobody()
    for name in NAMES[:5]:
        web.file(b"/etc/ssl/" + name, b"-----BEGIN CERTIFICATE-----\n" + b"A" * 5 * MIB)
    web.file("/proc/sys/kernel/hostname", b"\x1b[31mred\n\x07\n")

    done = commands.run("snapshot", "--root", web.root, "--format", "summary")

    assert all(line.isprintable() for line in done.stdout.decode().splitlines())
    assert done.stdout.startswith(rb"\u001b[31mred\u000a\u0007, kernel")
    examples = section(look(web), "certificates")["examples"]
    assert len(examples) == 5
    assert all(example.startswith("too_large: /etc/ssl/") for example in examples)


# -- files that are not what they say ------------------------------------------------------------------------


def length(number: int) -> bytes:
    """A DER length of four bytes."""
    return b"\x84" + number.to_bytes(4, "big")


BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


@functools.cache
def contents(pem: bytes = BEGIN + b"\nAAAA\n" + END) -> dict[str, bytes]:
    """What stands where something else should be, by what it is."""
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    der[5:8] = b"\x82\xff\xff"
    return {
        "half-written": pem[: len(pem) // 2],
        "without its end": pem.replace(END, b""),
        "garbage in base64": pem.replace(b"\n", b"\n!?*", 3),
        "base64 of garbage": BEGIN + b"\n" + b"A" * 256 + b"\n" + END + b"\n",
        "a lying length in it": BEGIN + b"\n" + base64.encodebytes(bytes(der)) + END + b"\n",
        "10 MB on one line": BEGIN + b"A" * 10_000_000 + END,
        "3 MB on one line": BEGIN + b"A" * 3_000_000 + END,
        "escapes without end": BEGIN + rb"\n" * 1_000_000 + END,
        "nothing but beginnings": (BEGIN + b"\n") * 50_000,
        "beginnings in one line": BEGIN * 50_000,
        "beginnings in each other": b"-----BEGIN " * 100_000,
        "nothing but dashes": b"-" * 3_000_000,
        "DER that is longer than it says": b"\x30" + length(10) + bytes(500),
        "DER that is shorter than it says": b"\x30" + length(0xFFFFFFFF) + bytes(500),
        "DER of nonsense": b"\x30" + length(500) + b"\x30" + length(9999) + b"\xff" * 494,
        "DER nested without end": b"\x30" + length(60000) + b"\x30\x80" * 30_000,
        "DER without an end": b"\x30\x80" + b"\x30\x80" * 300,
        "an ELF of nothing": b"\x7fELF" + b"\xff" * 4096,
        "a path without end": b"/x" * 500_000 + b"\n",
        "a field without end": b"alice:x:1000:1000::" + b"/x" * 500_000 + b":/bin/sh\n",
        "zeros": bytes(100_000),
        "every byte": bytes(range(256)) * 100,
    }


@pytest.mark.parametrize("kind", contents())
def test_no_content_of_a_file_breaks_the_document(web: FakeHost, pem: bytes, kind: str) -> None:
    """Where certificates, libraries and configuration are looked for, under every suffix."""
    page = contents(pem)[kind]
    configuration = ("/etc/ld.so.conf", "/etc/crypto-policies/config", "/proc/sys/crypto/fips_enabled")
    for path in (
        "/etc/ssl/bad.pem",
        "/etc/ssl/bad.der",
        "/srv/bad",
        "/opt/bad/lib/libssl.so.3",
        *configuration,
    ):
        web.file(path, page)

    snapshot = look(web)

    skipped = section(snapshot, "certificates").get("skipped", {})
    assert skipped.keys() <= {"malformed", "too_large"}
    if kind in (
        "half-written",
        "10 MB on one line",
        "garbage in base64",
        "a certificate with a lying length",
    ):
        assert skipped
        assert section(snapshot, "certificates")["examples"]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/group", "/etc/os-release", "/etc/machine-id", "/var/lib/dpkg/status",
     "/var/lib/dpkg/info/evil.list", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/hostname"],
)  # fmt: skip
def test_no_content_of_the_hosts_own_files_breaks_the_document(web: FakeHost, pem: bytes, path: str) -> None:
    """Users, system, packages: each is read by somebody before anything is told."""
    for kind, page in contents(pem).items():
        web.file(path, page)

        draft = in_process(web)

        assert {state.status for state in draft.sections.values()} <= {"complete", "partial"}, kind
        keys = {entry.key for part in draft.parts.values() for entry in decode_part(part)}
        assert "/etc/ssl/own.pem" in keys, kind


def in_process(web: FakeHost) -> document.Draft:
    """The document of that host, one by every reader, without a process of its own."""
    outcomes = run.run_scanners(web.host, run.choose(None))
    draft = document.compose(web.host, outcomes, Printed(People.of(web.host)))
    manifest = canonical.encode(draft.manifest())
    data = canonical.encode(draft.sealed(manifest))
    decode_manifest(manifest)
    assert decode_sealed(data).parts.keys() == draft.parts.keys()
    assert list(VALIDATOR.iter_errors(json.loads(data))) == []
    for name, state in draft.sections.items():
        assert state.status != "failed", (name, state.reason)
    return draft


def test_what_is_no_file_is_left_alone(web: FakeHost) -> None:
    """A FIFO would wait for ever, a device might do things, a socket cannot be read."""
    for folder in ("/etc/ssl", "/opt/app/lib", "/usr/lib"):
        os.mkfifo(web.place(f"{folder}/fifo.pem"))
        with socket.socket(socket.AF_UNIX) as made:
            # A socket's name is short; it is made from within.
            before = os.getcwd()
            os.chdir(os.path.dirname(web.place(f"{folder}/socket.pem")))
            try:
                made.bind("socket.pem")
            finally:
                os.chdir(before)
        if os.geteuid() == 0:
            os.mknod(web.place(f"{folder}/zero.pem"), 0o666 | stat.S_IFCHR, os.makedev(1, 5))
            os.mknod(web.place(f"{folder}/full.pem"), 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    web.process(11)
    for path in ("/etc/os-release", "/etc/passwd", "/proc/11/maps"):
        os.unlink(web.place(path))
    for path in ("/etc/os-release", "/etc/passwd", "/proc/11/maps", "/etc/ld.so.conf"):
        os.mkfifo(web.place(path))

    snapshot = look(web)

    assert section(snapshot, "certificates")["status"] == "complete"
    assert section(snapshot, "processes")["skipped"] == {"unreadable": 1}


def test_links_lead_round_in_circles_and_out_of_the_root_to_nothing(
    web: FakeHost, tmp_path: Path, pem: bytes
) -> None:
    """What stands outside of the directory is another host's."""
    # Given a certificate outside, and links to it by every way out
    (tmp_path / "outside.pem").write_bytes(pem)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/in.pem").write_bytes(pem)
    web.link("/etc/ssl/absolute.pem", str(tmp_path / "outside.pem"))
    web.link("/etc/ssl/relative.pem", "../../../outside.pem")
    web.link("/etc/ssl/folder", "../../../outside")
    web.link("/etc/ssl/proc.pem", f"/proc/self/root{tmp_path}/outside.pem")
    web.link("/opt/app", "/../../outside")
    # And circles
    web.link("/etc/ssl/self.pem", "self.pem")
    web.link("/etc/ssl/one", "two")
    web.link("/etc/ssl/two", "one")
    web.link("/etc/ssl/up", "..")
    for number in range(60):
        web.link(f"/etc/ssl/chain{number}", f"chain{number + 1}")
    os.unlink(web.place("/etc/os-release"))
    web.link("/etc/os-release", "/etc/os-release")

    snapshot = look(web)

    # Then only what is inside is told, and no way out is
    paths = [
        entry["where"]["path"]
        for part in snapshot["inventory"]["parts"].values()
        for entry in part
        if entry["asset"]["kind"] == "certificate"
    ]
    assert paths == ["/etc/ssl/own.pem"]
    assert "outside" not in json.dumps(snapshot)


def test_a_directory_deeper_than_any_path_is_counted(web: FakeHost, pem: bytes) -> None:
    """Longer than the kernel takes in one piece, so that nobody can name what is at its end."""
    place = os.open(os.path.dirname(web.place("/srv/x")), os.O_RDONLY)
    for _ in range(80):
        os.mkdir(b"\x01" * 250, dir_fd=place)
        below = os.open(b"\x01" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
        with os.fdopen(os.open("a.pem", os.O_WRONLY | os.O_CREAT, dir_fd=place), "wb") as file:
            file.write(pem)
    os.close(place)

    try:
        snapshot = look(web)
    finally:
        # rm can, where Python's own way stops at the longest path.
        subprocess.run(["rm", "-rf", web.root / "srv"], check=True)

    state = section(snapshot, "certificates")
    assert state["status"] == "partial"
    assert state["skipped"]["budget"] >= 1
    assert state["skipped"]["too_large"] >= 1


# -- pages of /proc ------------------------------------------------------------------------------------------

MAPPED = b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 1     "
PAGES = (
    b"", b"\0" * 100, b"\xff" * 100, b"10 (x", b"10 (x) ", b"(((((", b")))))", b"Uid:\n" * 10,
    b"Uid: x\nGid: y\n", b"-\n" * 10_000, b"ffffffffffffffffffff-0 r-xp 0 0:0 99999999999999999999999 /x\n",
    b"0::\n", b":::::\n", b"1:a:/../../..\n", MAPPED + b"\n", MAPPED + b"/x" * 40_000 + b"\n",
    MAPPED + b"../../etc/passwd\n", MAPPED + b"/\0\n",
)  # fmt: skip


@pytest.mark.parametrize("entry", ["stat", "status", "maps", "cgroup", "mountinfo"])
def test_no_page_of_a_process_breaks_the_document(web: FakeHost, entry: str) -> None:
    """Kernels, containers and emulations of Linux write pages that no manual has."""
    for number, page in enumerate(PAGES, 100):
        web.process(number)
        web.file(f"/proc/{number}/{entry}", page)

    look(web)
    in_process(web)


def test_a_process_of_which_parts_are_missing_breaks_nothing(web: FakeHost) -> None:
    """It ends between two looks, at every moment."""
    entries = ("stat", "status", "cgroup", "maps", "exe", "root", "fd")
    for number, entry in enumerate(entries, 100):
        web.process(number, fds=["/etc/ssl/own.pem"])
        place = web.place(f"/proc/{number}/{entry}")
        shutil.rmtree(place) if entry == "fd" else os.unlink(place)
    web.file("/proc/99999999999999999999/maps", b"")
    web.file("/proc/200/unrelated", b"")
    web.file("/proc/300", b"a file")
    web.link("/proc/400", "/etc")
    web.file("/proc/²/maps", b"")

    snapshot = look(web)

    assert section(snapshot, "processes")["status"] in ("complete", "partial")
    assert {one["pid"] for one in snapshot["processes"]} >= {10, 106}


@pytest.mark.parametrize(
    "page", [b"", b"garbage\n" * 100, b"\xff\xfe", b"22 1 254:0 / / rw\n", b"1 2 3:4 / " * 10]
)
def test_a_mount_table_of_garbage_is_no_leave_to_touch_anything_else(web: FakeHost, page: bytes) -> None:
    """It is said where nothing may be looked at for it."""
    web.file("/proc/self/mountinfo", page)

    snapshot = check(commands.run("snapshot", "--root", web.root))

    assert section(snapshot, "certificates")["status"] in ("complete", "partial", "failed")


# -- files that change while we look -------------------------------------------------------------------------


class Changing:
    """Somebody who keeps changing a file until he is told to stop."""

    def __init__(self, change: Callable[[int], object]) -> None:
        self._change = change
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            self._change(number)
            number += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_failure: object) -> None:
        self._is_over.set()
        self._thread.join()


def test_files_that_shrink_grow_and_are_replaced_while_we_read_break_nothing(
    web: FakeHost, pem: bytes
) -> None:
    """What is read is a whole certificate or none."""
    library = Path(os.fsdecode(web.place(LIBCRYPTO))).read_bytes()
    places = [os.fsdecode(web.place(f"/etc/ssl/changing{number}.pem")) for number in range(4)]
    elf = os.fsdecode(web.place("/usr/lib/libssl-changing.so"))
    maps = os.fsdecode(web.place("/proc/10/maps"))
    line = b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 1     /usr/lib/none\n"
    before = Path(maps).read_bytes()

    def change(number: int) -> None:
        with open(places[0], "wb") as file:
            file.write(pem * (number % 3))
        with open(places[1], "ab") as file:
            file.write(b"x" * 100)
            file.truncate((number * 97) % 5000)
        with open(places[2] + ".new", "wb") as file:
            file.write(pem)
        os.rename(places[2] + ".new", places[2])
        with open(elf, "wb") as file:
            file.write(library[: (number * 61) % len(library)])
        with open(maps, "wb") as file:
            file.write(before + line * (number % 50))

    with Changing(change):
        for _ in range(15):
            draft = in_process(web)
            found = {entry.asset for part in draft.parts.values() for entry in decode_part(part)}
            certificates = {asset for asset in found if type(asset).__name__ == "Certificate"}
            # One and the same certificate, wherever it stands
            assert len(certificates) == 1


# -- this machine --------------------------------------------------------------------------------------------

NAMED = """
import ctypes, os, ssl, sys
name = bytes.fromhex(sys.argv[1])
ctypes.CDLL(None).prctl(15, name)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def programs() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs that were started; they end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for program in started:
        program.kill()
        program.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that is not pytest's, so that it may hold any names."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def test_real_processes_with_any_name_are_told_truly(
    folder: Path, programs: list[subprocess.Popen[bytes]]
) -> None:
    """The kernel escapes some of its pages and not others; what is told is what the process is called."""
    # Given programs whose names and paths are whatever the kernel takes
    python = shutil.copy(os.path.realpath(sys.executable), folder / "python")
    called: dict[int, tuple[bytes, bytes]] = {}
    for number, name in enumerate(NAMES):
        exe = os.fsencode(folder) + b"/%d" % number + name
        os.link(python, exe)
        program = subprocess.Popen(
            [exe, "-S", "-c", NAMED, name[:15].hex()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONHOME": sys.base_prefix},
        )  # fmt: skip
        programs.append(program)
        called[program.pid] = (name[:15], exe.removesuffix(b" (deleted)"))
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"

    # When the machine is looked at
    snapshot = check(commands.run("snapshot", "--no-redact", "--scanner", "processes"))

    # Then each has its own name and path
    told = {
        one["pid"]: (canonical.unescape_text(one["name"]), canonical.unescape_text(one["exe"]))
        for one in snapshot["processes"]
    }
    assert {pid: told.get(pid) for pid in called} == called


LOADED = """
import ctypes, os, sys
library = ctypes.CDLL(os.fsdecode(bytes.fromhex(sys.argv[1])))
key = open(bytes.fromhex(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_real_libraries_and_files_with_any_name_are_told_truly(
    folder: Path, programs: list[subprocess.Popen[bytes]]
) -> None:
    """` (deleted)` is in a name, or is the kernel's word: only one of them is gone."""
    # Given copies of this machine's libcrypto by such names, mapped, and keys that are open; one of each gone
    machine = commands.snapshot("--scanner", "libraries")
    libraries = [entry for part in machine["inventory"]["parts"].values() for entry in part]
    real = [entry["key"] for entry in libraries if entry["asset"].get("soname", "").startswith("libcrypto.")]
    if not real:
        pytest.skip("there is no libcrypto here")
    expected: dict[int, tuple[bytes, bytes]] = {}
    names = [*NAMES, b"gone"]
    for number, name in enumerate(names):
        library = os.fsencode(folder) + b"/lib%d" % number + name
        key = os.fsencode(folder) + b"/key%d" % number + name + b".key"
        shutil.copyfile(real[0], library)
        Path(os.fsdecode(key)).touch()
        program = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", "-c", LOADED, library.hex(), key.hex()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        if name == b"gone":
            os.unlink(library)
            os.unlink(key)
            library, key = library + b" (deleted)", key + b" (deleted)"
        expected[program.pid] = (library, key)

    snapshot = check(commands.run("snapshot", "--no-redact", "--scanner", "processes"))

    told = {one["pid"]: one for one in snapshot["processes"]}
    for pid, (library, key) in expected.items():
        libraries_told = [canonical.unescape_text(path) for path in told[pid]["libraries"]]
        assert [path for path in libraries_told if path.startswith(os.fsencode(folder))] == [library]
        assert [canonical.unescape_text(path) for path in told[pid]["open_crypto_files"]] == [key]


STORM = """
import os, ssl, sys
print("ready", flush=True)
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_processes_that_end_while_we_look_are_nobodys_fault() -> None:
    """A storm of forks, 3000 in all: each may be gone between any two of our questions."""
    command = [os.path.realpath(sys.executable), "-I", "-c", STORM, "3000"]
    statuses = set()
    looks = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as storm:
        assert storm.stdout is not None
        assert storm.stdout.readline() == b"ready\n"
        try:
            while storm.poll() is None and looks < 20:
                outcome = run.run_scanners(Host(), run.choose(["processes"]))
                draft = document.compose(Host(), outcome, Printed(People.of(Host())))
                state = draft.sections["processes"]
                statuses.add(state.status)
                assert "vanished" not in state.skipped
                looks += 1
        finally:
            storm.kill()

    assert looks
    assert statuses <= {"complete", "partial"}


@pytest.mark.root
def test_a_process_that_only_stops_and_one_that_is_dead_hinder_nothing(
    programs: list[subprocess.Popen[bytes]],
) -> None:
    """A stopped one is there with all it maps; of a dead one only the number is left."""
    stopped, dead = (
        subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", "-c", NAMED, b"program".hex()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    )  # fmt: skip
    programs += [stopped, dead]
    for program in (stopped, dead):
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
    stopped.send_signal(signal.SIGSTOP)
    dead.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)

    snapshot = check(commands.run("snapshot", "--scanner", "processes"))

    pids = {one["pid"] for one in snapshot["processes"]}
    assert stopped.pid in pids
    assert dead.pid not in pids
