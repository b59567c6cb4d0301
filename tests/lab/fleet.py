# SPDX-License-Identifier: Apache-2.0
"""How does the product come onto a lab? A collector in the lab's network, the frozen agent on each host.

Everything runs as an operator would run it: the `fleet` command and the one-file agent, nothing imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.errors import LabError
from tests.lab.host import Host
from tests.lab.lab import Lab

AGENT = "/usr/local/bin/fleet-agent"
PORT = 8443
FLEET = Path(sys.executable).with_name("fleet")


class Fleet:
    """A collector and its hosts. The collector ends with the lab; what it stored stays in `directory`."""

    def __init__(self, lab: Lab, directory: Path, agent: Path) -> None:
        """Nothing is started yet.

        Args:
            lab: is up.
            directory: for the collector's data, and this machine's own agent state.
            agent: the frozen agent.
        """
        self.lab = lab
        self.directory = directory
        self.agent = agent
        self.data = directory / "collector"
        self.url = f"https://{lab.address}:{PORT}"
        self.pin = ""

    def serve(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the collector, made anew where there is none; it accepts connections when this returns."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.directory / "collector.log", "ab") as log:
            process = self.lab.ctl_popen(
                [
                    str(FLEET),
                    "serve",
                    "--init",
                    f"--data={self.data}",
                    f"--listen={self.lab.address}:{PORT}",
                    *options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(rb"ca pin (sha256:[0-9a-f]{64})", line):
                self.pin = found[1].decode()
            if line.startswith(b"listening on "):
                return process
        raise LabError(f"the collector ended with {process.wait()}; see {self.directory}/collector.log")

    def ask(self, *words: str, code: int = 0) -> str:
        """What `fleet` prints for those words.

        Raises:
            LabError: it exits with another code.
        """
        done = subprocess.run(
            [str(FLEET), *words],
            env={**os.environ, "CRYPTOFLEET_DATA": str(self.data)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != code:
            raise LabError(
                f"fleet {' '.join(words)} exited with {done.returncode}: {done.stderr or done.stdout}"
            )
        return done.stdout

    def ask_json(self, *words: str) -> Any:  # noqa: ANN401 - a document of the command's own
        """The same as a document."""
        return json.loads(self.ask(*words, "--format", "json"))

    def token(self) -> str:
        """A new enrolment token for one host."""
        return self.ask("token", "create").strip()

    def enrol(self, host: Host) -> None:
        """Bring the agent onto a host and make the host known, over ssh as an operator would."""
        host.put(self.agent, AGENT)
        command = f"{AGENT} enroll --url {self.url} --pin {self.pin} --token-file -"
        with host.ssh() as client:
            stdin, stdout, stderr = client.exec_command(command, timeout=60)
            stdin.write(self.token() + "\n")
            stdin.channel.shutdown_write()
            if code := stdout.channel.recv_exit_status():
                raise LabError(f"{host.name}: enroll exited with {code}: {stderr.read().decode()}")

    def post(self, host: Host, *options: str, code: int = 0) -> str:
        """Scan and post once from a host; what the agent says on stderr."""
        done = host.run([AGENT, "run", "--once", *options], check=False, timeout_s=120)
        if done.returncode != code:
            raise LabError(f"{host.name}: fleet-agent run exited with {done.returncode}: {done.stderr}")
        return done.stderr

    def post_machine(self, *options: str) -> str:
        """Enrol this machine itself, which is no host of the lab, and post once through the lab's network."""
        state = f"--state-dir={self.directory / 'agent'}"
        self.lab.ctl(
            [str(self.agent), "enroll", "--url", self.url, "--pin", self.pin, "--token-file", "-", state],
            feed=self.token() + "\n",
        )
        return self.lab.ctl([str(self.agent), "run", "--once", state, *options], timeout_s=120).stderr
