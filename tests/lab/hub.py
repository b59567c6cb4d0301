# SPDX-License-Identifier: Apache-2.0
"""What does a lab have beside its hosts, and can this machine give it?

One sleeping process holds two namespaces: a network with the bridge and the controller's address, and a mount
namespace with the hosts' disks, so that a disk outlives a crash.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import network, units
from tests.lab.boot import SEARCH_PATH
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.host import ENTER

# What the machine must have, and the Debian package that brings it.
TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "ssh-keygen": "openssh-client"}


@dataclass(frozen=True)
class Hub:
    """The hub of a lab that is up: the lab's control group, and the sleeping process."""

    cgroup: Path
    pid: int

    def command(self, argv: Sequence[str], *namespaces: str) -> list[str]:
        """The argument list that runs a program of the machine in the lab's network and control group."""
        return [
            *(*ENTER, f"{self.cgroup}/ctl/cgroup.procs"),
            *("nsenter", f"--target={self.pid}", "--net", *namespaces, "--"),
            *argv,
        ]

    def is_running(self) -> bool:
        """Whether the process lives, and is not another one that got the number since."""
        members = self.cgroup / "hub/cgroup.procs"
        return members.exists() and str(self.pid) in members.read_text().split()


def check_machine(init: str, base: str) -> None:
    """Ask what can be asked without making anything.

    Raises:
        LabRefusedError: who runs this is not root, or a program is missing.
    """
    check_root()
    for tool, package in TOOLS.items():
        if not shutil.which(tool, path=SEARCH_PATH):
            raise LabRefusedError(f"{tool} is missing; install {package}")
    if not os.path.exists(f"{base}/usr/sbin/sshd"):
        raise LabRefusedError(f"{base} has no sshd; install openssh-server")
    has_systemd = os.path.exists(f"{base}/{units.SYSTEMD}") and units.find_ssh_unit(base)
    if init == "systemd" and not has_systemd:
        raise LabRefusedError(
            f"{base} has no systemd with a unit for sshd; install systemd and openssh-server"
        )


def check_root() -> None:
    """Ask what is most often missing.

    Raises:
        LabRefusedError: who runs this is not root.
    """
    if os.geteuid():
        raise LabRefusedError("a lab needs root, for namespaces, mounts and cables")


def make_cgroups(cgroup: Path, hosts: Sequence[str]) -> None:
    """Make the lab's control group, with one below it for the hub, the controller's programs and every host.

    Raises:
        LabRefusedError: the hierarchy cannot be written, or the kernel is older than 5.14.
    """
    try:
        for group in ("hub", "ctl", *hosts):
            (cgroup / group).mkdir(parents=True)
        # The hosts get what controllers there are; beside a version 1 hierarchy there are none.
        controllers = (cgroup / "cgroup.controllers").read_text().split()
        if controllers:
            (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    except OSError as error:
        raise LabRefusedError(f"this machine lets no control group be made: {error}") from error
    if not (cgroup / "cgroup.kill").exists():
        raise LabRefusedError("the kernel cannot kill a control group at once; that takes Linux 5.14")


def start(cgroup: Path) -> tuple[Hub, subprocess.Popen[bytes]]:
    """Start the sleeping process and lay the bridge.

    Raises:
        LabRefusedError: the kernel gives no namespaces or no bridge.
    """
    process = subprocess.Popen(
        [
            *(*ENTER, f"{cgroup}/hub/cgroup.procs"),
            *("unshare", "--mount", "--net", "--propagation=private", "--"),
            *("/bin/sh", "-c", "echo ready; exec sleep infinity"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdout.readline() != b"ready\n":
        reason = process.stderr.read().decode().strip()
        process.communicate()
        raise LabRefusedError(f"this machine gives no namespaces: {reason}")
    hub = Hub(cgroup, process.pid)
    try:
        network.ip_batch(network.bridge_lines(), hub.command([]))
    except LabError as error:
        raise LabRefusedError(f"this machine has no bridge: {error}") from error
    return hub, process
