# SPDX-License-Identifier: Apache-2.0
"""Does a snapshot of the running machine stay whole and true beside processes that make it hard?

Names and stopped processes are looked at in tests/agent/test_hostile.py, missing rights in
test_circumstances.py. Here: very many descriptors, paths that no call can name, process numbers that are
taken by another program at once, and a reader of files that is killed.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import errors
from agent.guard import confine
from tests.agent.cli.commands import AGENT, ALONE, ENVIRONMENT, run, snapshot

pytestmark = [pytest.mark.root, pytest.mark.slow]

PYTHON = os.path.realpath(sys.executable)


@contextmanager
def program(script: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that has said `ready`, for the time of the block."""
    argv = [PYTHON, "-I", "-S", "-c", script, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        try:
            said = started.stdout.readline()
            if said != b"ready\n":
                pytest.skip(f"the program could not be what it should: {said.decode()}")
            yield started
        finally:
            started.kill()


def of(document: dict[str, Any], pid: int) -> dict[str, Any]:
    """What a snapshot says of one process."""
    (process,) = [one for one in document["processes"] if one["pid"] == pid]
    return dict(process)


def state(document: dict[str, Any], section: str) -> dict[str, Any]:
    """How a section went."""
    return dict(document["inventory"]["manifest"]["sections"][section])


# -- very many descriptors -----------------------------------------------------------------------------------

HOARD = """
import os, resource, sys
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
first = os.open(sys.argv[2], os.O_RDONLY)
plain = os.open("/dev/null", os.O_RDONLY)
try:
    while True:
        last = os.dup(plain)
except OSError:
    os.close(last)
os.open(sys.argv[3], os.O_RDONLY)
print("ready", flush=True)
sys.stdin.read()
"""
DESCRIPTORS = 100_000


def test_a_hundred_thousand_descriptors_are_looked_through_or_counted(tmp_path: Path) -> None:
    """The one that a key hides behind is found, or the section says that some were left."""
    first, last = tmp_path / "first.key", tmp_path / "last.key"
    first.touch()
    last.touch()
    # Where a limit of the machine forbids that many to one process, several have them together.
    each = min(DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

    with ExitStack() as stack:
        hoards = [
            stack.enter_context(program(HOARD, str(each), str(first), str(last)))
            for _ in range(-(-DESCRIPTORS // each))
        ]
        document = snapshot("--scanner", "processes", "--no-redact")

    is_told = bool(state(document, "processes").get("skipped", {}).get("budget"))
    for hoard in hoards:
        held = of(document, hoard.pid)["open_crypto_files"]
        assert str(first) in held or is_told
        assert str(last) in held or is_told


# -- paths that no call can name -----------------------------------------------------------------------------

DEEP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
key = os.open("deep.key", os.O_CREAT | os.O_RDWR)
os.write(key, open(sys.argv[2], "rb").read())
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_key_below_a_path_that_is_too_long_to_be_named_is_counted(tmp_path: Path) -> None:
    """The kernel itself cannot write such a name (PATH_MAX); silence would say that nothing is open."""
    key = tmp_path / "plain.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True
    )
    # Not pytest's folder, which pytest must be able to remove.
    folder = tempfile.mkdtemp()
    try:
        with program(DEEP, folder, str(key)) as deep:
            document = snapshot("--scanner", "processes", "--no-redact")
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)

    listed = {
        path for one in document["processes"] if one["pid"] == deep.pid for path in one["open_crypto_files"]
    }
    hidden = state(document, "processes").get("skipped", {})
    assert listed or hidden.get("too_large") or hidden.get("unreadable")


# -- process numbers that are taken again --------------------------------------------------------------------

REUSE = """
import os, subprocess, sys, time
library, with_it, without, *agent = sys.argv[1:]
looking = subprocess.Popen(agent, stdout=subprocess.PIPE)
number = looking.pid + 50
turn = 0
while looking.poll() is None:
    turn += 1
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(number - 1))
    pid = os.fork()
    if pid == 0:
        environment = {"LD_PRELOAD": library} if turn % 2 else {}
        # Sometimes long enough to be met, mostly just long enough to be in the way.
        time_s = "0.3" if turn % 8 == 1 else "0.005"
        os.execve(with_it if turn % 2 else without, ["sleep", time_s], environment)
    os.waitpid(pid, 0)
sys.stdout.buffer.write(looking.stdout.read())
sys.exit(looking.returncode)
"""


def test_a_number_that_another_program_has_taken_is_never_half_of_each(tmp_path: Path) -> None:
    """Two programs by turns under one number; only one of them ever has libcrypto mapped."""
    if not os.path.exists("/proc/sys/kernel/ns_last_pid"):
        pytest.skip("this kernel lets nobody choose process numbers (CONFIG_CHECKPOINT_RESTORE)")
    sleep = os.path.realpath(shutil.which("sleep") or "/bin/sleep")
    with_it, without = (shutil.copy(sleep, tmp_path / name) for name in ("with-it", "without"))
    mapped = Path("/proc/self/maps").read_text().split()
    library = next((word for word in mapped if "/libcrypto.so" in word), None)
    if library is None:
        pytest.skip("this interpreter has no libcrypto mapped")

    met = 0
    for look in range(40):
        done = run(
            *(library, with_it, without, *AGENT, "snapshot", "--scanner", "processes", "--no-redact"),
            agent=(PYTHON, "-I", "-c", REUSE),
            prefix=ALONE,
        )
        assert done.returncode in (0, 1), done.stderr
        document = json.loads(done.stdout)
        entries = [entry for part in document["inventory"]["parts"].values() for entry in part]
        exes = [one["exe"] for one in document["processes"]] + [entry["where"]["exe"] for entry in entries]
        assert str(without) not in exes
        met += str(with_it) in exes
        if met and look >= 5:
            return
    pytest.fail("a program that runs most of the time was never met")


# -- a reader that is killed ---------------------------------------------------------------------------------


def test_a_reader_that_is_killed_again_and_again_is_told_and_the_document_is_whole() -> None:
    """Whoever reads found bytes for the agent may die of them; the snapshot says so and goes on."""
    for _ in range(10):
        killed, code, document, words = snapshot_with_a_killer()
        assert killed
        sections = document["inventory"]["manifest"]["sections"]
        crashed = {name for name, one in sections.items() if one.get("skipped", {}).get("crashed")}
        assert all(sections[name]["status"] == "partial" for name in crashed)
        # A kill between two questions costs nothing and is not told; then it is tried again.
        if crashed:
            # Without a single process the totals of 0 would be believed, so that is an error.
            expected = errors.EXIT_PARTIAL if document["processes"] else errors.EXIT_FAILURE
            assert (code, "reading them ended the process" in words) == (expected, True), words
            return
    pytest.fail("no kill fell into a question")


def snapshot_with_a_killer() -> tuple[int, int, dict[str, Any], str]:
    """How often its reader was killed, its exit code, its document, and what it said."""
    words = [*AGENT, "snapshot", "--strict"]
    killed = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as looking:
        assert looking.stdout is not None
        while looking.poll() is None and not select.select([looking.stdout], [], [], 0)[0]:
            for pid in readers(looking.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
        stdout, stderr = looking.communicate(timeout=120)
    return killed, looking.returncode, json.loads(stdout), stderr.decode()


def readers(pid: int) -> list[int]:
    """Processes below one that have become a user of their own."""
    found = []
    for child in descendants(pid):
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
        if int(uid) >= confine.NOBODY_FROM:
            found.append(child)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *descendants(child))]


def test_nothing_of_it_stays_behind() -> None:
    """No process of its family outlives the command, however it ends."""
    words = [*AGENT, "snapshot"]
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        with subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as looking:
            while looking.poll() is None and not descendants(looking.pid):
                pass
            family = descendants(looking.pid)
            looking.send_signal(number)
            assert looking.stderr is not None
            looking.stderr.read()
        assert family
        for pid in family:
            assert not Path(f"/proc/{pid}/exe").exists()
