# SPDX-License-Identifier: Apache-2.0
"""Does the window see what it may see, and say what it lacks, inside namespaces and without root?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.model import canonical
from tests.bpf.kinds import Opener

pytestmark = [pytest.mark.root, pytest.mark.kernel]

Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(house: Path, objects: Path, opener_path: Path) -> Look:
    """Run look.py behind a command; `meanwhile` is done outside while its window is open."""

    def run(before: list[str], file: Path, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
        if shutil.which(before[0]) is None:
            pytest.skip(f"{before[0]} is not installed")
        script = str(Path(__file__).with_name("look.py"))
        process = subprocess.Popen(
            [*before, sys.executable, script, str(file), str(opener_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(house)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        first = process.stdout.readline()
        if first == "ready\n":
            meanwhile()
            first = ""
        out, complaint = process.communicate("go\n", timeout=60)
        if not first + out:
            pytest.skip(f"{' '.join(before)}: {complaint.strip()}")
        answer: dict[str, Any] = json.loads(first + out)
        return answer

    return run


def test_in_a_pid_namespace_only_its_processes_are_reported_by_its_numbers(
    look: Look, opener: Opener, tmp_path: Path
) -> None:
    """An agent in a container must not report its neighbours, and the kernel's numbers mean nothing to it."""
    # Given an agent in a pid namespace of its own
    inside, outside = tmp_path / "inside.pem", tmp_path / "outside.pem"
    # When a process inside opens one file, and a process outside another one
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    answer = look(unshare, inside, lambda: opener("openat", 23, outside))
    # Then only the first is reported, by the number that it has inside
    assert {event["file"] for event in answer["events"]} == {str(inside)}
    assert len(answer["events"]) == 23
    assert {event["pid"] for event in answer["events"]} == {answer["pid"]}
    # And the other is in the account as what it is
    assert answer["stats"]["foreign"] >= 23


def test_outside_a_namespace_its_processes_are_reported_too(
    look: Look, opener_path: Path, tmp_path: Path
) -> None:
    """The host's agent sees containers."""
    # Given an agent in the initial pid namespace
    if os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC:
        pytest.skip("this is no initial pid namespace")
    inside = tmp_path / "inside.pem"
    # When a process in another one opens a file
    command = ["unshare", "--pid", "--fork", str(opener_path), "openat", "23", str(inside)]
    answer = look(["env"], tmp_path / "host.pem", lambda: subprocess.run(command, check=True))
    # Then it is reported, by the number that the host knows it by
    events = [event for event in answer["events"] if event["file"] == str(inside)]
    assert len(events) == 23
    assert {event["pid"] for event in events} != {1}
    assert answer["stats"]["foreign"] == 0


def test_a_time_namespace_does_not_move_timestamps(look: Look, tmp_path: Path) -> None:
    """There the agent's clocks and those of the kernel half differ by days."""
    # Given an agent in a time namespace whose clock is six days ahead
    file = tmp_path / "clock.pem"
    before = canonical.timestamp(time.time_ns() - 1_000_000)
    # When a file is opened
    answer = look(["unshare", "--time", "--monotonic", "500000", "--fork"], file)
    # Then the event happened between before and now
    after = canonical.timestamp(time.time_ns() + 1_000_000)
    assert len(answer["events"]) == 23
    assert [
        event["timestamp"] for event in answer["events"] if not before <= event["timestamp"] <= after
    ] == []


def test_without_privilege_it_says_what_to_grant(look: Look, tmp_path: Path) -> None:
    """Whoever runs it as himself must not have to guess."""
    # Given a root without capabilities
    # When a window is asked for
    answer = look(["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"], tmp_path / "a.pem")
    # Then the error is that of privilege, with errno's name and the capabilities
    assert answer["error"] == "PrivilegeError"
    assert "EPERM" in answer["message"]
    assert "CAP_BPF and CAP_PERFMON" in answer["message"]


def test_two_capabilities_are_enough(look: Look, tmp_path: Path) -> None:
    """The service need not be root; the third that the message names is for reading the files."""
    # Given a process that has only what the programs need
    few = "-all,+bpf,+perfmon"
    # When a window is open
    answer = look(["setpriv", "--bounding-set", few, "--inh-caps", few], tmp_path / "a.pem")
    # Then it sees everything
    assert len(answer["events"]) == 23, answer
    assert answer["stats"]["refused"] == {}


def test_tracefs_need_not_be_mounted(look: Look, tmp_path: Path) -> None:
    """A new machine has it unmounted, and the agent mounts nothing by itself."""
    # Given a mount namespace without tracefs
    unmount = "umount -q -R /sys/kernel/debug /sys/kernel/tracing 2>/dev/null; exec"
    # When a window is open
    answer = look(["unshare", "--mount", "sh", "-c", f'{unmount} "$0" "$@"'], tmp_path / "a.pem")
    # Then it sees everything
    assert len(answer["events"]) == 23, answer
