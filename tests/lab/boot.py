# SPDX-License-Identifier: Apache-2.0
"""How does a process become a host?

Run as a program inside the hub's namespaces, it reads a Job on standard input, forks one process per host
into namespaces of its own, lays the cables, waits until every sshd answers, and prints the hosts' pids (as
the machine numbers them).

Exit codes: 0 all hosts are up, 1 one did not come up, 3 the machine cannot hold them; why is on stderr.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.lab import disk, kernel, network, units
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.spec import Job, Plan

REFUSED = 3
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a host may not do to the machine: load modules, raw I/O, set the clock. Source: linux/capability.h
DROPPED_CAPABILITIES = {"sys_module": 16, "sys_rawio": 17, "sys_time": 25}

# The kernel's settings belong to the machine; those of the network are the host's own.
READ_ONLY_PROC = ("sys", "sysrq-trigger", "irq", "bus")

# `wait` sleeps and also reaps what daemons leave behind to pid 1.
SHELL_INIT = f"""
mkdir -p /run/sshd /run/lock
/usr/sbin/sshd -E /var/log/sshd.log {units.SSHD_OPTIONS}
while :; do sleep 86400 & wait; done
"""


@dataclass(frozen=True)
class Forked:
    """A host whose pid 1 exists and waits for its cable.

    Attributes:
        go: write one byte and it goes on; close without, and it ends.
        report: what went wrong; at its end without a byte the host's own init runs.
    """

    pid: int
    go: int
    report: int


def boot(job: Job) -> list[int]:
    """Boot the job's hosts; their pids in the same order.

    Raises:
        LabRefusedError: the kernel refuses the disks or the namespaces.
        LabError: one host did not come up, and why.
    """
    roots = [disk.make_disk(job, plan) for plan in job.hosts]
    forked = [_fork(job, plan, root) for plan, root in zip(job.hosts, roots, strict=True)]
    network.ip_batch(
        [
            line
            for plan, host in zip(job.hosts, forked, strict=True)
            for line in network.plug_lines(plan.cable, host.pid)
        ]
    )
    for host in forked:
        os.write(host.go, b"x")
        os.close(host.go)
    for plan, host in zip(job.hosts, forked, strict=True):
        with open(host.report) as report:
            if complaint := report.read():
                raise LabError(f"{plan.name} did not boot: {complaint}")
    deadline = time.monotonic() + job.timeout_s
    for plan, root, host in zip(job.hosts, roots, forked, strict=True):
        if why := _wait_for_sshd(plan, deadline):
            log = _last_log(job, root, host.pid)
            raise LabError(f"{plan.name}: no ssh on {plan.cable.address} in time ({why})\n{log}".rstrip())
    return [host.pid for host in forked]


class _LastWords:
    """A forked process that does not get to its host's init ends here, and says why on a pipe."""

    def __init__(self, report: int) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> NoReturn:
        if error is not None:
            expected = isinstance(error, (OSError, LabError))
            words = str(error) if expected else "".join(traceback.format_exception(error))
            os.write(self._report, words.encode())
        os._exit(0)


def _fork(job: Job, plan: Plan, root: str) -> Forked:
    go_read, go_write = os.pipe()
    report_read, report_write = os.pipe()
    pid_read, pid_write = os.pipe()
    # The host's own commands are put beside its init: a group with controllers for children holds no process
    # itself.
    os.makedirs(f"{plan.cgroup}/lab", exist_ok=True)
    # A PID namespace holds the next child, so the one that makes it is not yet the host.
    middle = os.fork()
    if not middle:
        with _LastWords(report_write):
            Path(plan.cgroup, "cgroup.procs").write_text("0")
            kernel.unshare(
                kernel.CLONE_NEWNS
                | kernel.CLONE_NEWPID
                | kernel.CLONE_NEWUTS
                | kernel.CLONE_NEWIPC
                | kernel.CLONE_NEWNET
                | kernel.CLONE_NEWCGROUP
            )
            pid = os.fork()
            if pid:
                os.write(pid_write, str(pid).encode())
            else:
                os.close(go_write)
                os.close(pid_write)
                _become_host(job, plan, root, go_read)
    for descriptor in (go_read, report_write, pid_write):
        os.close(descriptor)
    os.waitpid(middle, 0)
    with open(pid_read) as pid_file:
        number = pid_file.read()
    if not number:
        with open(report_read) as report:
            raise LabRefusedError(f"this machine cannot hold the host {plan.name}: {report.read()}")
    return Forked(int(number), go_write, report_read)


def _become_host(job: Job, plan: Plan, root: str, go: int) -> NoReturn:
    """Turn this process, the first of its PID namespace, into the host's init."""
    os.setsid()
    kernel.set_hostname(plan.name)
    if os.read(go, 1) != b"x":
        raise LabError("its cable could not be laid")
    network.ip_batch(network.interface_lines(plan.cable))
    authorized_key = Path(job.directory, "id_ed25519.pub").read_text()
    _mount_kernel_trees(root)
    _mount_memory_trees(root)
    _make_devices(f"{root}/dev")
    if job.init == "systemd":
        units.write_run(root, authorized_key)
    else:
        units.write_authorized_key(root, authorized_key)
    os.chdir(root)
    kernel.pivot_root_here()
    for number in DROPPED_CAPABILITIES.values():
        kernel.drop_capability(number)
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    log = os.open("/var/log/init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job.init == "systemd":
        # The variable tells systemd not to touch hardware and clocks. Source: systemd.io/CONTAINER_INTERFACE
        os.execve(f"/{units.SYSTEMD}", ["/sbin/init"], {"container": "lab", "PATH": SEARCH_PATH})
    os.execve("/bin/sh", ["init", "-c", SHELL_INIT], {"PATH": SEARCH_PATH})


def _mount_kernel_trees(root: str) -> None:
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", f"{root}/proc", "proc", quiet)
    for name in READ_ONLY_PROC:
        if os.path.exists(f"{root}/proc/{name}"):
            _bind(f"{root}/proc/{name}", quiet | kernel.MS_RDONLY)
    _bind(f"{root}/proc/sys/net", quiet)
    kernel.mount("sysfs", f"{root}/sys", "sysfs", quiet | kernel.MS_RDONLY)
    kernel.mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2", quiet)
    # Only tests of the kernel half need these, and those say themselves what is missing.
    for fstype, target in (
        ("tracefs", "kernel/tracing"),
        ("bpf", "fs/bpf"),
        ("securityfs", "kernel/security"),
    ):
        with suppress(OSError):
            kernel.mount(fstype, f"{root}/sys/{target}", fstype, quiet)


def _bind(path: str, flags: int) -> None:
    """Mount a path on itself, to give it flags of its own."""
    kernel.mount(path, path, flags=kernel.MS_BIND)
    kernel.mount(path, path, flags=kernel.MS_BIND | kernel.MS_REMOUNT | flags)


def _mount_memory_trees(root: str) -> None:
    kernel.mount("tmpfs", f"{root}/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=64m")
    kernel.mount("tmpfs", f"{root}/dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=1m")
    for name, fstype, data in (
        ("pts", "devpts", "newinstance,ptmxmode=666,mode=620,gid=5"),
        ("shm", "tmpfs", "mode=1777,size=64m"),
        ("mqueue", "mqueue", ""),
    ):
        os.mkdir(f"{root}/dev/{name}")
        kernel.mount(fstype, f"{root}/dev/{name}", fstype, kernel.MS_NOSUID, data)


def _make_devices(dev: str) -> None:
    before = os.umask(0)
    # Numbers are for ever. Source: Documentation/admin-guide/devices.txt
    for name, major, minor in (
        *(("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8)),
        *(("urandom", 1, 9), ("tty", 5, 0)),
    ):
        os.mknod(f"{dev}/{name}", 0o020666, os.makedev(major, minor))
    os.umask(before)
    for name, target in (
        *(("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1")),
        *(("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")),
    ):
        os.symlink(target, f"{dev}/{name}")


def _wait_for_sshd(plan: Plan, deadline: float) -> str:
    """Why there was no banner of sshd until the deadline; empty when there was."""
    why = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((plan.cable.address, 22), 2) as connection:
                connection.settimeout(2)
                if connection.recv(256).startswith(b"SSH-"):
                    return ""
                why = "it hung up"
        except OSError as error:
            why = str(error)
        time.sleep(0.02)
    return why


def _last_log(job: Job, root: str, pid: int) -> str:
    """The last that a host's sshd or systemd said."""
    if job.init == "sh":
        logs = sorted(Path(root, "var/log").glob("*.log"))
        return "".join(log.read_text(errors="replace")[-1000:] for log in logs)
    argv = ["nsenter", f"--target={pid}", "--mount", "--pid", "--root", "--"]
    journal = [*argv, "journalctl", "--no-pager", "--output=cat", "--lines=20"]
    return subprocess.run(journal, capture_output=True, text=True, errors="replace", check=False).stdout


def main() -> int:
    """Boot the hosts of the Job on standard input."""
    try:
        pids = boot(Job.from_json(sys.stdin.read()))
    except LabError as error:
        sys.stderr.write(str(error))
        return REFUSED if isinstance(error, LabRefusedError) else 1
    sys.stdout.write(json.dumps(pids))
    return 0


if __name__ == "__main__":
    sys.exit(main())
