# SPDX-License-Identifier: Apache-2.0
"""Is what was asked for reported, and nobody else's doings? Decided in the kernel, by descent too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.kernel.monitor import Window
from agent.kernel.probes.process_exec import ProcessExec
from tests.bpf.kinds import Opener, Watch

pytestmark = [pytest.mark.root, pytest.mark.kernel]

TIMES = 23


@pytest.fixture
def stranger(tmp_path: Path, opener_path: Path) -> Iterator[Callable[[], None]]:
    """A process that descends from nobody here; called, it opens tmp_path/far.pem 23 times and ends."""
    door = tmp_path / "door"
    os.mkfifo(door)
    done = tmp_path / "done"
    script = f"read go <{door}; {opener_path} openat {TIMES} {tmp_path}/far.pem; touch {done}"
    # Its parent ends at once, so that it is another's.
    subprocess.run(["sh", "-c", f"({script}) &"], check=True)

    def go() -> None:
        door.write_text("go\n")
        while not done.exists():
            time.sleep(0.005)

    yield go
    if not done.exists():
        go()


def test_the_agents_family_is_not_reported(
    watch: Watch, opener: Opener, stranger: Callable[[], None], tmp_path: Path
) -> None:
    """What the agent's helpers read would else be told as the host's use of it."""

    # Given this process, which is the agent
    def action(_: Window) -> None:
        # When a child of it, a grandchild, and a stranger do the same
        opener("openat", TIMES, tmp_path / "near.pem")
        subprocess.run(["sh", "-c", f"true; cat {tmp_path}/near.pem; true"], stderr=-3, check=True)
        stranger()

    seen = watch(action, is_family_seen=False)
    # Then only the stranger is reported
    assert len(seen.opens(tmp_path / "far.pem")) == TIMES
    assert seen.opens(tmp_path / "near.pem") == []
    near = os.fsencode(tmp_path / "near.pem")
    assert not [one for one in seen.events if isinstance(one, ProcessExec) and near in one.argv]
    # And the family is in the account as what it is
    assert seen.stats["file_open"].own > TIMES
    assert seen.stats["process_exec"].own >= 3


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[str]]:
    """A shell that does what it is told, and says when it has."""
    with subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


def tell(shell: subprocess.Popen[str], command: str) -> None:
    """Have it done."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{command}\necho done\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "done\n"


def test_one_process_alone(
    watch: Watch, shell: subprocess.Popen[str], opener: Opener, opener_path: Path, tmp_path: Path
) -> None:
    """A stream of one process must not cost what all of them would."""
    # Given a shell
    file = tmp_path / "a.pem"
    file.touch()

    def action(_: Window) -> None:
        # When it opens a file itself, its child does, and so does another process
        tell(shell, f": <{file}")
        tell(shell, f"{opener_path} openat 1 {file}")
        opener("openat", TIMES, file)

    seen = watch(action, pid=shell.pid)
    # Then only its own doing is reported
    assert {event.pid for event in seen.events} == {shell.pid}
    assert len(seen.opens(file)) == 1
    # And the others' are in the account
    assert seen.stats["file_open"].filtered >= TIMES
    assert seen.stats["process_exec"].filtered >= 2


def test_its_descendants_are_followed(
    watch: Watch, shell: subprocess.Popen[str], opener: Opener, opener_path: Path, tmp_path: Path
) -> None:
    """Children, theirs, those that were there before, and daemons that have left their parents."""
    # Given a shell with a child that it had before
    file, done = tmp_path / "a.pem", tmp_path / "done"
    file.touch()
    door = tmp_path / "door"
    os.mkfifo(door)
    tell(shell, f"(read go <{door}; {opener_path} openat 1 {file}; touch {done}) &")

    def action(_: Window) -> None:
        # When it has children and grandchildren
        tell(shell, f"{opener_path} openat 1 {file}")
        tell(shell, f"sh -c 'sh -c \"true; {opener_path} openat 1 {file}; true\"; true'")
        # And a grandchild whose parent ends before it does anything
        daemon = f"while ! test -e {done}; do sleep 0.01; done; {opener_path} openat 1 {file}; touch {done}.2"
        tell(shell, f"sh -c '({daemon}) & exit 0'")
        door.write_text("go\n")
        while not Path(f"{done}.2").exists():
            time.sleep(0.005)
        # And another process does the same
        opener("openat", TIMES, file)

    seen = watch(action, pid=shell.pid, is_following=True)
    # Then each descendant's doing is reported, and the other's is not
    opens = seen.opens(file)
    assert len(opens) == 4
    assert shell.pid not in {event.pid for event in opens}
    starts = {event.pid for event in seen.execs(opener_path)}
    assert starts == {event.pid for event in opens}
    assert starts <= {event.pid for event in seen.exits(opener_path)}


def test_what_has_ended_is_followed_no_more(
    watch: Watch, shell: subprocess.Popen[str], opener_path: Path, tmp_path: Path
) -> None:
    """A list that only grows would fill, and a number that is used again would be another's."""
    # Given a shell
    file = tmp_path / "a.pem"

    def action(window: Window) -> None:
        # When it has had more children than one would remember for long
        tell(shell, f"for i in $(seq {10 * TIMES}); do {opener_path} openat 1 {file}; done")
        known = window._sources[0]._object.items("followed", 4, 8)
        deadline = time.monotonic() + 10
        # The kernel frees a process a grace period after its end.
        while len(list(known)) > TIMES and time.monotonic() < deadline:
            time.sleep(0.01)
            known = window._sources[0]._object.items("followed", 4, 8)
        # Then nearly all of them are forgotten
        assert len(list(window._sources[0]._object.items("followed", 4, 8))) <= TIMES

    seen = watch(action, "file_open", pid=shell.pid, is_following=True)
    assert len(seen.opens(file)) == 10 * TIMES


@pytest.mark.parametrize("is_following", ["no", "yes"])
@pytest.mark.parametrize("before", [[], ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]])
def test_a_process_is_known_by_its_number_here(
    before: list[str], is_following: str, objects: Path, house: Path, opener_path: Path, tmp_path: Path
) -> None:
    """In a container the kernel's own numbers mean nothing to anybody."""
    if before and shutil.which(before[0]) is None:
        pytest.skip(f"{before[0]} is not installed")
    # Given an agent on the host or in a pid namespace, beside two shells
    file = tmp_path / "a.pem"
    file.touch()
    script = str(Path(__file__).with_name("beside.py"))
    # When it watches one of them, and both do the same
    done = subprocess.run(
        [*before, sys.executable, script, opener_path, file, is_following],
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["refused"] == {}
    # Then the one is seen, with its child where that is wanted, and the other is not
    pid = answer["pid"]
    own = [(kind, ppid) for number, kind, ppid, _ in answer["seen"] if number == pid]
    others = [(kind, ppid) for number, kind, ppid, _ in answer["seen"] if number != pid]
    assert [kind for kind, _ in own] == ["FileOpen", "ProcessExit"]
    if is_following == "no":
        assert others == []
    else:
        kinds = [kind for kind, _ in others if kind != "LibLoad"]
        assert kinds == ["ProcessExec", "FileOpen", "ProcessExit"]
        # By its parent's number here
        assert {ppid for kind, ppid in others if kind.startswith("Process")} == {pid}


def test_a_parent_outside_of_the_namespace_has_no_number(
    objects: Path, house: Path, opener_path: Path, tmp_path: Path
) -> None:
    """As getppid(2) has it."""
    # Given an agent in a pid namespace, whose first process was started from outside
    script = (
        "import json\nfrom agent.host import Host\nfrom agent.kernel.monitor import open_window\n"
        "import subprocess\n"
        "with open_window(Host(), ['process_exec'], is_family_seen=True) as window:\n"
        "    print('ready', flush=True)\n    input()\n    window.stop()\n"
        "    print(json.dumps([(e.pid, e.ppid, len(e.argv)) for e in window.events()]))\n"
    )
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(house)},
    ) as agent:
        assert agent.stdout is not None
        if agent.stdout.readline() != "ready\n":
            pytest.skip(agent.communicate()[1].strip().splitlines()[-1])
        # When a process is put into its namespace from outside
        (inside,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        subprocess.run(["nsenter", "-t", inside, "-p", opener_path, "openat", "1", "/x.pem"], check=True)
        out, _ = agent.communicate("\n")
    # Then it has a number there, and its parent none
    assert [ppid for _, ppid, words_count in json.loads(out) if words_count == 4] == [0]
