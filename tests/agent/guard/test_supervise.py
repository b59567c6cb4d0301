# SPDX-License-Identifier: Apache-2.0
"""Scanners that hang, crash and eat, and what is left of a look when one of them does."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from agent import errors, run
from agent.document import Outcome
from agent.guard import supervise, worker
from agent.host import Host
from agent.model.asset import FileUse
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.scanners import Scan, Spec
from agent.settings import Budget
from agent.survey.process import HeldLibrary, Process

MIB = 1024 * 1024
SPEC = Spec(detector=1, reads=())
# Short enough for a test, and far more than the others here need on a busy machine.
HASTY = Budget(scanner_time_s=3)


def scanner(scan: Callable[[Host], Scan]) -> ModuleType:
    """A scanner that does this."""
    module = ModuleType("hostile")
    module.SPEC = SPEC  # type: ignore[attr-defined]
    module.scan = scan  # type: ignore[attr-defined]
    return module


def entry(path: str) -> Entry:
    """Something found."""
    return Entry(key=path, asset=FileUse(access=("read",)), where=Location(path=path))


def finds(path: str) -> ModuleType:
    """A scanner that is well."""
    return scanner(lambda _host: Scan(entries=[entry(path)]))


def look(budget: Budget = HASTY, **hostile: Callable[[Host], Scan]) -> dict[str, Outcome]:
    """Run them between two that are well; those two have to be whole."""
    chosen = {name: scanner(scan) for name, scan in hostile.items()}
    outcomes = supervise.run_scanners(Host(), {"a": finds("/a"), **chosen, "z": finds("/z")}, budget)
    assert list(outcomes) == sorted(["a", *hostile, "z"])
    for name in ("a", "z"):
        assert outcomes.pop(name) == Outcome(spec=SPEC, scan=Scan(entries=[entry(f"/{name}")]))
    assert children() == []
    return outcomes


def children() -> list[int]:
    """What this process has left over, zombies too."""
    page = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in page.split()]


def failure(scan: Callable[[Host], Scan], budget: Budget = HASTY) -> str | None:
    """Why this one failed, others being none the worse."""
    return look(budget, hostile=scan)["hostile"].failure


# -- what is well


def test_the_outcomes_are_those_of_scanners_run_right_here() -> None:
    """All of a scan crosses over: also what is in no inventory, and names that are no text."""
    scan = Scan(
        entries=[entry("/a"), entry("/\\xff")],
        skipped={"denied": 2},
        examples=["denied: /root"],
        rung="maps",
        rung_reason="no ioctl",
        live={"processes": 3},
        processes=[
            Process(
                pid=7,
                start_ticks=9,
                name="nginx",
                exe="/usr/sbin/nginx",
                uid=0,
                libraries=(HeldLibrary(path="/l", family="openssl", name="libssl"),),
            )
        ],
    )
    absent = Scan(absent="there is no /proc")

    def refuses(_host: Host) -> Scan:
        raise errors.ToolError("/usr/bin/rpm exited 1")

    def breaks(_host: Host) -> Scan:
        raise ZeroDivisionError

    chosen = {
        "full": scanner(lambda _host: scan),
        "absent": scanner(lambda _host: absent),
        "refused": scanner(refuses),
        "buggy": scanner(breaks),
    }
    assert supervise.run_scanners(Host(), chosen) == run.run_scanners(Host(), chosen)


def test_all_scanners_of_one_look_share_what_their_host_remembers() -> None:
    """Reading the package database once for each of them would cost more than the look."""
    host = Host()

    def marks(one: Host) -> Scan:
        vars(one)["mark"] = os.getpid()
        return Scan(live={"pid": os.getpid()})

    outcomes = supervise.run_scanners(
        host, {"a": scanner(marks), "b": scanner(lambda one: Scan(live={"pid": vars(one)["mark"]}))}
    )

    first, second = (outcome.scan for outcome in outcomes.values())
    assert first is not None
    assert first == second
    assert first.live["pid"] != os.getpid()


def test_an_entry_that_no_document_takes_costs_no_other() -> None:
    """It is counted as it is where there is no worker between."""
    long = Entry(key="k" * 70_000, asset=FileUse(), where=Location())

    scan = look(hostile=lambda _host: Scan(entries=[entry("/x"), long]))["hostile"].scan

    assert scan is not None
    assert [one.key for one in scan.entries] == ["/x"]
    assert scan.skipped == {"too_large": 1}


def test_who_waits_for_the_worker_is_known_to_it() -> None:
    """The agent is not what it looks for, and now it is two processes."""

    def tells(host: Host) -> Scan:
        return Scan(live={str(pid): 1 for pid in host.own_pids})

    scan = look(hostile=tells)["hostile"].scan
    assert scan is not None
    assert str(os.getpid()) in scan.live
    assert len(scan.live) == 2


# -- what is not


def hangs(_host: Host) -> Scan:
    """As a read from a dead disk does."""
    time.sleep(3600)
    return Scan()


def spins(_host: Host) -> Scan:
    """As a loop without an end does."""
    while True:
        pass


def stops(_host: Host) -> Scan:
    """As a tracer that stops whatever it meets does."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return Scan()


def clings(_host: Host) -> Scan:
    """As a process that takes no hint does."""
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)
    return Scan()


@pytest.mark.slow
@pytest.mark.parametrize("scan", [hangs, spins, stops, clings])
def test_one_that_does_not_end_is_ended(scan: Callable[[Host], Scan]) -> None:
    """Whatever keeps it."""
    assert failure(scan) == "did not end within 3 s"


def test_one_that_the_kernel_does_not_let_go_of_is_left_and_the_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a disk that hangs: no signal arrives. Here none is sent."""
    noted = tmp_path / "pid"

    def waits(_host: Host) -> Scan:
        noted.write_text(str(os.getpid()))
        time.sleep(3600)
        return Scan()

    chosen = {"a": finds("/a"), "b": scanner(waits), "c": finds("/c")}
    monkeypatch.setattr(supervise, "_END_S", 0.2)
    with monkeypatch.context() as changed:
        changed.setattr(os, "killpg", lambda _group, _number: None)
        outcomes = supervise.run_scanners(Host(), chosen, Budget(scanner_time_s=1))
    os.kill(int(noted.read_text()), signal.SIGKILL)
    os.waitpid(int(noted.read_text()), 0)

    assert outcomes["b"].failure == (
        "did not end within 1 s, and cannot be killed: it waits in the kernel, perhaps for a disk that hangs"
    )
    assert outcomes["a"].scan == Scan(entries=[entry("/a")])
    assert outcomes["c"].scan == Scan(entries=[entry("/c")])


def killed(_host: Host) -> Scan:
    """As the kernel kills when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Scan()


def faults(_host: Host) -> Scan:
    """As a library does that is given a hostile file."""
    faulthandler.disable()
    ctypes.string_at(8)
    return Scan()


def aborts(_host: Host) -> Scan:
    """As an assertion in C does."""
    faulthandler.disable()
    os.abort()


def leaves(_host: Host) -> Scan:
    """As a library does that thinks it is a program."""
    os._exit(3)


def leaves_well(_host: Host) -> Scan:
    """The same, and content with itself."""
    os._exit(0)


def exits(_host: Host) -> Scan:
    """The same, in Python."""
    sys.exit(0)


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (killed, "was killed by SIGKILL, as the kernel does when memory is short"),
        (faults, "was killed by SIGSEGV"),
        (aborts, "was killed by SIGABRT"),
        (leaves, "ended its process, with exit status 3"),
        (leaves_well, "ended its process, with exit status 0"),
        (exits, "ended its process, with exit status 70"),
    ],
)
def test_one_that_ends_its_process_ends_only_its_section(scan: Callable[[Host], Scan], reason: str) -> None:
    """With the reason as the kernel gives it."""
    assert failure(scan) == reason


def eats(_host: Host) -> Scan:
    """As a parser does that believes a length in a file."""
    held = []
    while True:
        held.append(bytearray(MIB))


def eats_at_once(_host: Host) -> Scan:
    """The same, in one bite."""
    return Scan(examples=[str(bytearray(1 << 40))])


@pytest.mark.parametrize("scan", [eats, eats_at_once])
def test_one_that_eats_memory_is_stopped_at_its_budget(scan: Callable[[Host], Scan]) -> None:
    """And the next one has all of it again."""
    assert failure(scan, Budget(memory_mib=256)) == "needed more than 256 MiB of memory"


def test_each_of_several_has_its_own_reason() -> None:
    """One after the other, the first ones too, and those in between are whole."""
    outcomes = look(Budget(memory_mib=256), b=killed, c=eats, d=lambda _host: Scan(), e=faults, f=eats)

    assert [outcome.failure for outcome in outcomes.values()] == [
        "was killed by SIGKILL, as the kernel does when memory is short",
        "needed more than 256 MiB of memory",
        None,
        "was killed by SIGSEGV",
        "needed more than 256 MiB of memory",
    ]


def test_what_one_finds_has_a_limit() -> None:
    """Whoever collects must not be eaten by what he collects."""
    assert failure(lambda _host: Scan(absent="x" * (65 * MIB))) == worker.TOO_MUCH


def test_a_length_that_is_a_lie_is_not_believed() -> None:
    """A worker that hostile bytes have taken over can write anything."""

    def lies(_host: Host) -> Scan:
        os.write(way_back(), (1 << 60).to_bytes(8))
        return Scan()

    assert failure(lies) == worker.TOO_MUCH


def test_bytes_that_are_no_answer_are_a_failure_and_nothing_else() -> None:
    """The same."""

    def lies(_host: Host) -> Scan:
        os.write(way_back(), (3).to_bytes(8) + b"\xff\xff\xff")
        os._exit(0)

    assert "please report it" in (failure(lies) or "")


def way_back() -> int:
    """The pipe of this worker: the one that is open for writing and was made for it."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        flags = Path(f"/proc/self/fdinfo/{name}")
        if (
            flags.exists()
            and os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
            and int(flags.read_text().split("flags:")[1].split()[0], 8) & (os.O_WRONLY | os.O_CLOEXEC)
            == os.O_WRONLY | os.O_CLOEXEC
        ):
            found.append(int(name))
    return max(found)


def test_an_answer_that_cannot_be_written_names_the_bug() -> None:
    """A name that was not escaped."""
    assert failure(lambda _host: Scan(examples=["\udcff"])) == (
        "bug in scanner: UnicodeEncodeError in what it found; please report it"
    )


@pytest.mark.slow
def test_one_that_closes_its_way_back_is_ended() -> None:
    """It can never answer, and so no one waits for the whole of its time."""

    def closes(_host: Host) -> Scan:
        os.closerange(3, 256)
        time.sleep(3600)
        return Scan()

    assert failure(closes, Budget()) == "gave no answer, and did not end"


def test_a_child_that_outlives_the_worker_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It has the other end of the pipe, where the end of the worker so does not show. It ends with it."""
    noted = tmp_path / "pid"

    def forks(_host: Host) -> Scan:
        child = os.fork()
        if child == 0:
            time.sleep(3600)
        noted.write_text(str(child))
        os._exit(3)

    assert failure(forks, Budget()) == "ended its process, with exit status 3"
    assert is_gone(int(noted.read_text()))


def test_when_the_time_of_the_look_is_spent_the_others_are_not_begun() -> None:
    """And each says so: silence is not health."""
    chosen = {"a": finds("/a"), "b": scanner(hangs), "c": finds("/c"), "d": finds("/d")}

    outcomes = supervise.run_scanners(Host(), chosen, Budget(time_s=2))

    assert outcomes["a"].scan == Scan(entries=[entry("/a")])
    assert [outcomes[name].failure for name in "bcd"] == [
        "did not end within what was left of the 2 s of this look",
        *["was not begun, because the 2 s of this look were spent"] * 2,
    ]


def test_where_no_process_can_be_started_that_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host at the limit of its processes."""

    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)

    outcomes = supervise.run_scanners(Host(), {"a": finds("/a")})

    assert outcomes["a"].failure == "no process could be started for it: resource temporarily unavailable"


def test_the_worker_is_the_first_to_go_and_leaves_no_core() -> None:
    """Of all on a host that is short of memory; and a core would hold bytes of the host's files."""

    def tells(_host: Host) -> Scan:
        score = Path("/proc/self/oom_score_adj").read_text()
        limits = Path("/proc/self/limits").read_text().splitlines()
        core = next(line for line in limits if line.startswith("Max core file size"))
        return Scan(live={"score": int(score), "core": int(core.split()[4])})

    scan = look(hostile=tells)["hostile"].scan
    assert scan is not None
    assert scan.live == {"score": 1000, "core": 0}


# -- who is ended, and with whom

SUPERVISES = """
import os, sys, time
from pathlib import Path
from types import ModuleType
from agent.guard import supervise
from agent.host import Host
from agent.scanners import Scan, Spec

def scan(host):
    child = os.fork()
    if child:
        Path(sys.argv[1]).write_text(f"{os.getpid()} {child}")
        print("scans", flush=True)
    time.sleep(3600)

module = ModuleType("hangs")
module.SPEC, module.scan = Spec(detector=1, reads=()), scan
supervise.run_scanners(Host(), {"hangs": module})
"""


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waiting for it; who reaps it is not our business."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 30)[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_end_takes_worker_and_its_children_along(tmp_path: Path, number: int) -> None:
    """No orphan goes on reading the host. Of Ctrl-C the worker itself hears nothing: it has its own group."""
    noted = tmp_path / "pids"
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISES, noted], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"scans\n"
        supervisor.send_signal(number)
        assert supervisor.wait(30) == -number
    assert all(is_gone(int(pid)) for pid in noted.read_text().split())


def test_when_the_supervisor_is_killed_the_worker_dies(tmp_path: Path) -> None:
    """There is nobody left to watch it."""
    noted = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", SUPERVISES, noted], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"scans\n"
        worker_pid, child = map(int, noted.read_text().split())
        supervisor.kill()
        supervisor.wait()
    assert is_gone(worker_pid)
    os.kill(child, signal.SIGKILL)
