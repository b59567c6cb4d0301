#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How do N Linux hosts come up on this one machine, and go again without a trace?

Every host has PID, network, mount, UTS, IPC and cgroup namespaces of its own, a root that is an overlay over
the machine's /, a real sshd, and as pid 1 a shell loop or a real systemd.

    with Lab(["web1", Spec("web2", sshd_config="Ciphers aes256-ctr")], init="systemd") as lab:
        lab["web1"].run("systemctl is-system-running")
        lab.ctl(["curl", f"https://{lab['web2'].address}/"])

Everything of a lab runs in one control group, and what it has beside its hosts belongs to one process there,
the hub; killing that group is how a lab ends.

Hosts are not a security boundary: root in a host is root on the machine's kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a program, a file finds its own directory on the path, not the checkout.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from tests.lab.cli import main

    sys.exit(main())

import hashlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import IO, Self

from tests.lab import network, rundir
from tests.lab.boot import REFUSED
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.host import Host
from tests.lab.hub import Hub, check_machine, make_cgroups, start
from tests.lab.spec import Job, Plan, Spec

INITS = ("sh", "systemd")
# What tells labs without a name of one process apart.
_numbers = itertools.count(1)


class Lab:
    """Hosts that are up together, and can reach one another and the controller.

    Attributes:
        hosts: in the order they were asked for.
        directory: the lab's run directory.
        key: the private key that logs in to every host, as root and as disk.USER.
        known_hosts: the hosts' SSH host keys, for a client that checks them.
        address: the controller's address, where a server started by `ctl_popen` or in `network()` can listen.
    """

    address = network.HUB_ADDRESS

    def __init__(
        self,
        hosts: int | Sequence[str | Spec] = 3,
        *,
        name: str = "",
        init: str = "sh",
        base: str = "/",
        disk: str = "256m",
        timeout_s: float = 60,
    ) -> None:
        """A lab that is not up yet.

        Args:
            hosts: how many (h1, h2, ...), or their names or Specs.
            name: one that no other lab on this machine has; without one, it is made from this process's id.
            init: "sh" or "systemd".
            base: the tree below every host's root; "/" or, say, one that debootstrap made.
            disk: how much a host can write, as tmpfs takes it.
            timeout_s: how long all hosts together may take to come up.

        Raises:
            LabError: the arguments make no lab.
        """
        named = [f"h{number}" for number in range(1, hosts + 1)] if isinstance(hosts, int) else hosts
        specs = [spec if isinstance(spec, Spec) else Spec(spec) for spec in named]
        self.name = name or f"pid{os.getpid()}-{next(_numbers)}"
        self.init, self.base, self.disk, self.timeout_s = init, os.path.abspath(base), disk, timeout_s
        self.directory = rundir.directory_of(self.name)
        self.hosts = [Host(self, spec, index) for index, spec in enumerate(specs)]
        self.hub: Hub | None = None
        self._watched: list[subprocess.Popen[bytes]] = []
        self._check_arguments(specs)

    def __getitem__(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f"no host {name!r} in lab {self.name}; there are {', '.join(host.name for host in self.hosts)}"
        )

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def cgroup(self) -> Path:
        return rundir.cgroup_of(self.directory)

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    # Life

    def up(self, *, kept: bool = False) -> Self:
        """Bring all hosts up; they answer on ssh, and under systemd their start is over.

        Args:
            kept: the lab shall outlive this process.

        Raises:
            LabRefusedError: this machine cannot hold a lab, and why.
            LabError: a host did not come up. Nothing is left behind.
        """
        check_machine(self.init, self.base)
        rundir.claim(self.directory, kept=kept)
        try:
            if self.init == "systemd":
                rundir.take_inotify(self.directory, len(self.hosts))
            make_cgroups(self.cgroup, [host.name for host in self.hosts])
            self.hub, process = start(self.cgroup)
            self.watched(process)
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "controller", "-f", str(self.key)],
                check=True,
            )
            self.boot(self.hosts)
        except BaseException:
            self.down()
            raise
        return self

    def down(self) -> None:
        """End the lab, whoever began it, in whatever state; what is not up needs no ending."""
        rundir.release(self.directory)
        for process in self._watched:
            process.wait(10)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._watched.clear()
        self.hub = None
        for host in self.hosts:
            host.pid = 0

    def boot(self, hosts: Sequence[Host]) -> None:
        """Boot those hosts, for the first time or after a crash."""
        plans = [
            Plan.of(host.spec, host.cable.index, str(host.cgroup), _machine_id(self.name, host.name))
            for host in hosts
        ]
        job = Job(
            directory=str(self.directory),
            checkout=str(rundir.CHECKOUT),
            init=self.init,
            base=self.base,
            disk=self.disk,
            timeout_s=self.timeout_s,
            names={host.name: host.address for host in self.hosts},
            hosts=tuple(plans),
        )
        # It is in the lab's control group, so that a killed owner leaves nothing that goes on making hosts.
        done = subprocess.run(
            self._running_hub().command([sys.executable, "-P", "-m", "tests.lab.boot"], "--mount"),
            input=job.to_json(),
            text=True,
            capture_output=True,
            check=False,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(rundir.CHECKOUT)},
        )
        if done.returncode:
            kind = LabRefusedError if done.returncode == REFUSED else LabError
            raise kind(done.stderr.strip() or f"the hosts' boot ended with {done.returncode}")
        for host, pid in zip(hosts, json.loads(done.stdout), strict=True):
            host.pid = pid
        self._write_state()
        if self.init == "systemd":
            self._wait_for_systemd(hosts)

    @classmethod
    def load(cls, name: str) -> Lab:
        """The lab of that name that is up, begun by another process.

        Raises:
            LabError: there is none.
        """
        try:
            state = json.loads((rundir.directory_of(name) / "state.json").read_text())
        except FileNotFoundError as error:
            raise LabError(f"no lab named {name!r} is up") from error
        pids = state.pop("hosts")
        lab = cls([*pids], name=name, init=state["init"], base=state["base"], disk=state["disk"])
        lab.hub = Hub(lab.cgroup, state["hub"])
        for host in lab.hosts:
            host.pid = pids[host.name]
        if not lab.hub.is_running():
            raise LabError(f"lab {name!r} is dead; end it with: lab.py down --name {name}")
        return lab

    # The controller's side

    def ctl_command(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs a program of the machine in the lab's network."""
        return self._running_hub().command(argv)

    def ctl(
        self, argv: Sequence[str], *, check: bool = True, feed: str = "", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine, with its files, in the lab's network; `feed` is its input.

        Raises:
            LabError: it does not end in time, or, with `check`, it does not exit with 0.
        """
        try:
            done = subprocess.run(
                self.ctl_command(argv),
                input=feed,
                text=True,
                errors="backslashreplace",
                capture_output=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{argv} did not end within {timeout_s} s") from error
        if check and done.returncode:
            raise LabError(
                f"{argv} exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
            )
        return done

    def ctl_popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program of the machine, a server say, in the lab's network; it dies with the lab."""
        return self.watched(
            subprocess.Popen(self.ctl_command(argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        )

    def network(self) -> AbstractContextManager[None]:
        """The calling thread, and threads it starts meanwhile, open their sockets in the lab's network."""
        return network.inside(self._running_hub().pid)

    def inventory(self) -> str:
        """The hosts as an Ansible inventory in YAML, for programs run through `ctl`."""
        arguments = f"-o UserKnownHostsFile={self.known_hosts} -o GlobalKnownHostsFile=/dev/null"
        return "\n".join(
            [
                *("all:", "  vars:", "    ansible_user: root"),
                f"    ansible_ssh_private_key_file: {self.key}",
                f"    ansible_ssh_common_args: {arguments} -o StrictHostKeyChecking=yes",
                *("    ansible_python_interpreter: /usr/bin/python3", "  hosts:"),
                *(f"    {host.name}: {{ansible_host: {host.address}}}" for host in self.hosts),
                "",
            ]
        )

    def watched(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Have the process waited for, and its pipes closed, when the lab ends."""
        self._watched.append(process)
        return process

    # Parts

    def _running_hub(self) -> Hub:
        if self.hub is None:
            raise LabError(f"lab {self.name} is not up")
        return self.hub

    def _wait_for_systemd(self, hosts: Sequence[Host]) -> None:
        """Wait until every start job is done; a failed one may be what a test is about."""
        question = ["systemctl", "is-system-running", "--wait"]
        waits = [host.popen(question, stdout=subprocess.PIPE) for host in hosts]
        for host, wait in zip(hosts, waits, strict=True):
            try:
                state = wait.communicate(timeout=self.timeout_s)[0].decode().strip()
            except subprocess.TimeoutExpired as error:
                jobs = host.run(["systemctl", "list-jobs", "--no-legend"], check=False).stdout.strip()
                raise LabError(
                    f"{host.name}: systemd is still starting after {self.timeout_s} s: {jobs}"
                ) from error
            if state not in ("running", "degraded"):
                raise LabError(f"{host.name}: systemd says it is {state or 'not there'}")

    def _write_state(self) -> None:
        state = {
            "init": self.init,
            "base": self.base,
            "disk": self.disk,
            "hub": self._running_hub().pid,
            "hosts": {host.name: host.pid for host in self.hosts},
        }
        (self.directory / "state.json").write_text(json.dumps(state))

    def _check_arguments(self, specs: Sequence[Spec]) -> None:
        if self.init not in INITS:
            raise LabError(f"init is one of {', '.join(INITS)}, not {self.init!r}")
        if not 0 < len(specs) <= network.HOSTS_MAX:
            raise LabError(f"a lab has 1 to {network.HOSTS_MAX} hosts, not {len(specs)}")
        if len({spec.name for spec in specs}) < len(specs):
            raise LabError("two hosts have one name")
        if self.init != "systemd" and any(spec.units or spec.start for spec in specs):
            raise LabError('units need init="systemd"')
        # overlayfs takes its directories in one comma separated option.
        if re.search(r"[,:\\\s]", f"{self.base}{self.directory}"):
            raise LabError(f"no blank, comma, colon or backslash may be in {self.base} and {self.directory}")


def _machine_id(lab: str, host: str) -> str:
    """An id that a host of that name has in every lab of that name."""
    return hashlib.sha256(f"{lab}/{host}".encode()).hexdigest()[:32]
