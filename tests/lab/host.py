# SPDX-License-Identifier: Apache-2.0
"""What can a test do to one host?"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from tests.lab import network, rundir
from tests.lab.boot import DROPPED_CAPABILITIES, SEARCH_PATH
from tests.lab.errors import LabError
from tests.lab.spec import Spec

if TYPE_CHECKING:
    import paramiko

    from tests.lab.lab import Lab

# A string goes through `sh -c`, a list as it is.
Command: TypeAlias = str | Sequence[str]

# Moves the shell that runs it into a control group, then becomes the rest of the arguments.
ENTER = ("/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"')


class Host:
    """One host of a lab that is up.

    Attributes:
        name: its host name.
        address: its address in the lab's network.
        pid: its pid 1, as the machine numbers it; 0 while it is crashed.
        cgroup: its control group, as the machine sees it; the host sees it as /.
    """

    def __init__(self, lab: Lab, spec: Spec, index: int) -> None:
        self.lab = lab
        self.spec = spec
        self.cable = network.Cable(index)
        self.pid = 0

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def address(self) -> str:
        return self.cable.address

    @property
    def cgroup(self) -> Path:
        return self.lab.cgroup / self.name

    # Commands and files

    def command(self, command: Command) -> list[str]:
        """The argument list that runs a command inside, as root, with a clean environment.

        Raises:
            LabError: the host is not running, or has shut itself down.
        """
        if not self.is_running():
            raise LabError(f"{self.name} is not running; boot() it")
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        dropped = ",".join(f"-{name}" for name in DROPPED_CAPABILITIES)
        return [
            *(*ENTER, f"{self.cgroup}/lab/cgroup.procs"),
            *("nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
            *("--root", "--wd", "--"),
            # nsenter waits for the command as its parent; whoever ends nsenter means the command.
            *("setpriv", "--pdeathsig=KILL", f"--bounding-set={dropped}"),
            *("env", "-i", f"PATH={SEARCH_PATH}", "HOME=/root", "LANG=C.UTF-8", *argv),
        ]

    def run(
        self, command: Command, *, check: bool = True, feed: str | bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end.

        Args:
            command: a string for the shell, or an argument list.
            check: an exit code other than 0 is an error.
            feed: what it reads on standard input.
            timeout_s: when it is killed.

        Returns:
            Its exit code and what it printed, bytes that are not UTF-8 escaped by a backslash.

        Raises:
            LabError: it does not end in time, or, with `check`, it does not exit with 0.
        """
        raw = feed.encode() if isinstance(feed, str) else feed
        done = self._run(command, raw, check=check, timeout_s=timeout_s)
        out, err = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def popen(
        self,
        command: Command,
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command inside. Killing or terminating the returned process kills the command at once."""
        return self.lab.watched(
            subprocess.Popen(self.command(command), stdin=stdin, stdout=stdout, stderr=stderr)
        )

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Put a file in the place of what had its name; missing directories are made."""
        raw = content.encode() if isinstance(content, str) else content
        self._run(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", path], raw)

    def put(self, local: str | os.PathLike[str], path: str) -> None:
        """Copy a file of the machine into the host, with its permission bits."""
        with open(local, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            self._run(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", path], file)

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.read_bytes(path).decode()

    def read_bytes(self, path: str) -> bytes:
        """The bytes of a file."""
        return self._run(["cat", "--", path]).stdout

    @contextmanager
    def ssh(self, user: str = "root", timeout_s: float = 20) -> Iterator[paramiko.SSHClient]:
        """A connected client that trusts the lab's known_hosts and nothing else; `user` is root or disk.USER.

        Raises:
            paramiko.SSHException, OSError: as paramiko and the kernel say it.
        """
        # Everything else of the lab needs the standard library alone.
        import paramiko

        with self.lab.network():
            connection = socket.create_connection((self.address, 22), timeout_s)
        with connection, paramiko.SSHClient() as client:
            client.load_host_keys(str(self.lab.known_hosts))
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            client.connect(
                self.address,
                username=user,
                key_filename=str(self.lab.key),
                sock=connection,
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                allow_agent=False,
                look_for_keys=False,
            )
            yield client

    # State

    def is_running(self) -> bool:
        """Whether its pid 1 lives, and is not another process of the machine that got the number since."""
        return self.pid > 0 and self.pid in self.pids()

    def pids(self) -> list[int]:
        """All its processes, as the machine numbers them."""
        pages = (page.read_text() for page in self.cgroup.glob("**/cgroup.procs"))
        return sorted(int(pid) for page in pages for pid in page.split())

    # Faults

    def kill(self, pattern: str, signal: str = "KILL") -> int:
        """Signal the processes inside whose command line matches (see pgrep -f); how many they were."""
        found = self.run(["pgrep", "-f", "--", pattern], check=False).stdout.split()
        if found:
            self.run(["/bin/kill", "-s", signal, *found], check=False)
        return len(found)

    def link_down(self) -> None:
        """Pull the cable."""
        self.lab.ctl(["ip", "link", "set", self.cable.port, "down"])

    def link_up(self) -> None:
        """Plug the cable in again."""
        self.lab.ctl(["ip", "link", "set", self.cable.port, "up"])

    def freeze(self) -> None:
        """Hang the host: its kernel still accepts connections, but no process of it does anything."""
        self._set_frozen(1)

    def thaw(self) -> None:
        """Let a frozen host go on."""
        self._set_frozen(0)

    def crash(self) -> None:
        """Cut the power: the cable goes silent before processes die, so that no farewell gets out.

        The disk stays as it is.
        """
        # The cable of a host that shut itself down went with it.
        self.lab.ctl(["ip", "link", "delete", self.cable.port], check=False)
        rundir.remove_cgroup(self.cgroup)
        self.pid = 0

    def boot(self) -> None:
        """Start it again, with the disk, the addresses and the keys it had.

        Raises:
            LabError: it runs, or it does not come up.
        """
        if self.is_running():
            raise LabError(f"{self.name} is running; reboot() it")
        # A host that shut itself down left a control group.
        self.crash()
        self.lab.boot([self])

    def reboot(self) -> None:
        """Cut the power and start it again."""
        self.crash()
        self.lab.boot([self])

    def _set_frozen(self, state: int) -> None:
        (self.cgroup / "cgroup.freeze").write_text(str(state))
        events = self.cgroup / "cgroup.events"
        complaint = f"{self.name} does not {'freeze' if state else 'thaw'}"
        rundir.until(lambda: f"frozen {state}" in events.read_text(), 10, complaint)

    def _run(
        self, command: Command, feed: bytes | IO[bytes] = b"", *, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        argv = self.command(command)
        text, file = (feed, None) if isinstance(feed, bytes) else (None, feed)
        try:
            done = subprocess.run(
                argv, input=text, stdin=file, capture_output=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {command!r} did not end within {timeout_s} s") from error
        if check and done.returncode:
            words = (done.stderr or done.stdout).decode(errors="backslashreplace").strip()
            raise LabError(f"{self.name}: {command!r} exited with {done.returncode}: {words[-2000:]}")
        return done
