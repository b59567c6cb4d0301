# SPDX-License-Identifier: Apache-2.0
"""What does systemd say of a unit file, and of a service that runs in a host?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.lab.rundir import until

# Of the machine the tests run on, where our programs are not installed; nothing is wrong with the unit.
NOT_INSTALLED = "is not executable: No such file or directory"
# Starting is unpacking and importing: a second, and many when the machine is busy.
START_S = 60


def complaints(unit: Path) -> list[str]:
    """What `systemd-analyze verify` finds wrong with a unit, but for programs that this machine lacks."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    # It also tells of other units of the machine, which ours want.
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    return [line for line in ours if not line.endswith(NOT_INSTALLED)]


class Service:
    """A service in a host whose pid 1 is systemd."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    def show(self, what: str) -> str:
        """One property, as systemctl prints it."""
        return self.host.run(["systemctl", "show", "--value", "-p", what, self.name]).stdout.strip()

    @property
    def main_pid(self) -> int:
        """The first process as the host numbers it; 0 when there is none."""
        return int(self.show("MainPID"))

    @property
    def pids(self) -> list[int]:
        """All of its processes."""
        page = self.host.run(
            f"cat /sys/fs/cgroup{self.show('ControlGroup')}/cgroup.procs", check=False
        ).stdout
        return sorted(int(pid) for pid in page.split())

    @property
    def journal(self) -> str:
        """What it and systemd said."""
        return self.host.run(["journalctl", "--no-pager", "-o", "cat", "-u", self.name]).stdout

    def status(self, pid: int, field: str) -> str:
        """A field of a process's status."""
        page = self.host.read(f"/proc/{pid}/status")
        return next(
            line.split(":", 1)[1].strip() for line in page.splitlines() if line.startswith(f"{field}:")
        )

    def capabilities(self, pid: int, field: str) -> set[int]:
        """A set of capabilities, by number."""
        mask = int(self.status(pid, field), 16)
        return {number for number in range(64) if mask >> number & 1}

    def inside(self, command: str) -> subprocess.CompletedProcess[str]:
        """A shell command that sees the file systems as the service does."""
        return self.host.run(
            ["nsenter", f"--target={self.main_pid}", "--mount", "sh", "-c", command], check=False
        )

    def wait_for_another(self, pid: int) -> int:
        """The first process after `pid`, once it is there."""
        until(lambda: self.main_pid not in (0, pid), START_S, f"{self.name} was not started again")
        return self.main_pid
