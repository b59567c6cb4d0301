# SPDX-License-Identifier: Apache-2.0
"""Does the role make hosts of a fleet: once, safely, and telling the truth? On hosts with a real systemd."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.boot import SEARCH_PATH
from tests.lab.fixtures import up_or_skip
from tests.lab.fleet import AGENT, PORT, Fleet
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.rundir import until

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

ENROLMENT = "/var/lib/cryptofleet/agent/enrolment.json"
# What the role puts on a host.
WRITTEN = (AGENT, "/etc/systemd/system/fleet-agent.service", "/etc/default/fleet-agent", ENROLMENT)
# The two hosts that get the agent; the third one stays as it is.
HOSTS = ("web1", "web2")
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """One run of the playbook: its exit code, all it printed, and what it counted for each host."""

    code: int
    output: str

    def count(self, what: str) -> dict[str, int]:
        """`changed`, `failed` or `unreachable` by host."""
        position = ("host", "ok", "changed", "unreachable", "failed").index(what)
        return {row[0]: int(row[position]) for row in RECAP.findall(self.output)}


class Controller:
    """Where Ansible runs: with the collection installed as users do it, and no configuration but its own."""

    def __init__(self, fleet: Fleet, directory: Path, house: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        (directory / "hosts.yml").write_text(fleet.lab.inventory())
        # Connections are shared by address and port, which all labs have in common: hence its own directory.
        (directory / "ansible.cfg").write_text(
            f"[defaults]\nhome={directory}/home\ncollections_path={directory}/collections\nnocolor=1\n"
            f"[ssh_connection]\ncontrol_path_dir={directory}/cp\n"
        )
        installed = self.run("ansible-galaxy", "collection", "install", f"{house}/ansible", "--offline")
        assert installed.returncode == 0, installed.stdout + installed.stderr

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of Ansible's programs, in the lab's network."""
        environment = {
            "PATH": SEARCH_PATH,
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": f"{self.directory}/ansible.cfg",
        }
        return self.fleet.lab.ctl(
            [
                *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
                str(Path(sys.executable).with_name(program)),
                *arguments,
            ],
            check=False,
            timeout_s=300,
        )

    def play(self, *options: str, token: str = "", window_s: int = 2, hosts: str = ",".join(HOSTS)) -> Played:
        """Run the playbook `deploy`; a token is given as the README says, in a file."""
        variables = self.directory / "fleet.yml"
        variables.write_text(
            f"agent_file: {self.fleet.agent}\n"
            f"agent_collector_url: https://controller:{PORT}\n"
            f"agent_collector_pin: {self.fleet.pin}\n"
            f"agent_window_s: {window_s}\n"
        )
        more = []
        if token:
            secret = self.directory / "token.yml"
            secret.write_text(f"agent_enroll_token: {token}\n")
            more = ["-e", f"@{secret}"]
        inventory = f"{self.directory}/hosts.yml"
        done = self.run(
            *("ansible-playbook", "-i", inventory, "--limit", hosts, "cryptofleet.fleet.deploy"),
            *("-e", f"@{variables}", *more, *options),
        )
        return Played(done.returncode, done.stdout + done.stderr)


@dataclass(frozen=True)
class Deployed:
    """The story so far: check mode on fresh hosts, what was on them after it, and the first real run."""

    controller: Controller
    fleet: Fleet
    token: str
    checked: Played
    found_after_check: dict[str, list[str]]
    first: Played

    @property
    def hosts(self) -> list[Host]:
        return [self.fleet.lab[name] for name in HOSTS]


def written(host: Host) -> list[str]:
    """What of the role's files is on the host."""
    return [path for path in WRITTEN if not host.run(["test", "-e", path], check=False).returncode]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path, house: Path) -> Iterator[Deployed]:
    """Two hosts with the agent and one, bare1, without."""
    with up_or_skip(Lab([*HOSTS, "bare1"], init="systemd")) as lab:
        directory = tmp_path_factory.mktemp("role")
        fleet = Fleet(lab, directory / "data", frozen_agent)
        fleet.serve("--name", "controller", "--next-post", "5s")
        controller = Controller(fleet, directory, house)
        token = fleet.ask("token", "create", "--uses", str(len(HOSTS))).strip()
        checked = controller.play("--check", "--diff", token=token)
        after = {name: written(lab[name]) for name in HOSTS}
        first = controller.play("-vvv", token=token)
        yield Deployed(controller, fleet, token, checked, after, first)


def main_pid(host: Host) -> str:
    """The service's main process, as the host numbers it."""
    return host.run("systemctl show --value -p MainPID fleet-agent.service").stdout.strip()


def test_check_mode_on_fresh_hosts_says_what_would_change_and_changes_nothing(deployed: Deployed) -> None:
    """It is what a careful operator does first, when nothing it could ask about is there yet."""
    assert deployed.checked.code == 0, deployed.checked.output
    assert all(deployed.checked.count("changed")[name] for name in HOSTS)
    assert deployed.found_after_check == {name: [] for name in HOSTS}
    # And a token it was shown is not spent by it: the next run needs both uses.
    assert deployed.first.code == 0, deployed.first.output


def test_the_first_run_makes_hosts_of_the_fleet(deployed: Deployed) -> None:
    """One command between an inventory file and a fleet that reports."""
    # Given the first run
    assert deployed.first.code == 0, deployed.first.output

    # Then the service runs on each, and will after a boot
    for host in deployed.hosts:
        states = host.run("systemctl is-active fleet-agent; systemctl is-enabled fleet-agent").stdout.split()
        assert states == ["active", "enabled"], host.name

    # And the collector has an inventory of each, from the frozen agent
    until(
        lambda: set(sections(deployed.fleet)) == set(HOSTS), 120, "the collector has not heard of both hosts"
    )
    for name, found in sections(deployed.fleet).items():
        assert {"host", "libraries", "certificates", "processes", "observed_files"} <= found.keys(), name
        assert found["certificates"] == found["libraries"] == found["processes"] == "complete", name


def sections(fleet: Fleet) -> dict[str, dict[str, str]]:
    """The status of every section that was accepted, by host and section."""
    rows: list[dict[str, Any]] = fleet.ask_json("hosts")["tables"]["hosts"]
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        tables = fleet.ask_json("show", row["host"])["tables"]
        states = {state["section"]: state["status"] for state in tables["sections"]}
        if states:
            found[row["host"]] = states
    return found


def test_a_second_run_changes_nothing_and_needs_no_token(deployed: Deployed) -> None:
    """It runs every night from somebody's pipeline; a token that lay there for it would be a leak."""
    before = [main_pid(host) for host in deployed.hosts]

    second = deployed.controller.play()
    checked = deployed.controller.play("--check")

    assert (second.code, checked.code) == (0, 0), second.output + checked.output
    assert second.count("changed") == checked.count("changed") == dict.fromkeys(HOSTS, 0)
    assert [main_pid(host) for host in deployed.hosts] == before


def test_the_agent_is_started_once_by_the_first_run(deployed: Deployed) -> None:
    """Started and at once restarted, it would leave its first look at the host unfinished."""
    for host in deployed.hosts:
        log = host.run(["journalctl", "--no-pager", "-o", "cat", "-u", "fleet-agent.service"]).stdout
        assert log.count("Started fleet-agent.service") == 1, log


def test_the_token_is_in_no_log(deployed: Deployed) -> None:
    """What a module is given goes to the host's journal, and to the terminal with -vvv, unless kept out."""
    # Given that the token was used, and other things were logged
    assert "2/2" in deployed.fleet.ask("token", "list")
    journals = [host.run(["journalctl", "--no-pager", "-o", "cat"]).stdout for host in deployed.hosts]
    assert all("ansible" in journal for journal in journals)
    assert "fleet-agent.service" in deployed.first.output

    # Then it is in none of it, nor in a file the role wrote
    for place in (deployed.checked.output, deployed.first.output, *journals):
        assert deployed.token not in place
    for host in deployed.hosts:
        kept = host.run(
            ["grep", "-rlF", "--", deployed.token, "/etc", "/var/lib", "/root", "/tmp"], check=False
        )
        assert kept.stdout == ""


def test_another_window_restarts_the_agent(deployed: Deployed) -> None:
    """A changed setting that waits for the next boot would be a setting that does nothing."""
    # Given an agent that watches file opens
    host = deployed.hosts[1]
    assert command_line(host) == [AGENT, "run", "--window", "2"]
    before = main_pid(host)

    # When it is told not to
    played = deployed.controller.play(window_s=0, hosts=host.name)

    # Then that is the one change, and the agent that runs now does not
    assert played.code == 0, played.output
    assert main_pid(host) != before
    assert command_line(host) == [AGENT, "run"]


def command_line(host: Host) -> list[str]:
    """How the service's main process was called."""
    return host.read(f"/proc/{main_pid(host)}/cmdline").rstrip("\0").split("\0")


def test_a_host_without_a_token_is_told_before_anything_is_changed(deployed: Deployed) -> None:
    """Half an installation on a host that then cannot be enrolled helps nobody."""
    host = deployed.fleet.lab["bare1"]

    played = deployed.controller.play(hosts=host.name)

    assert played.count("failed") == {host.name: 1}
    assert played.count("changed") == {host.name: 0}
    assert "`fleet token create` prints a token" in played.output
    assert written(host) == []


def test_a_host_that_cannot_be_enrolled_says_why(deployed: Deployed) -> None:
    """The task that knows the token is silent; the collector's reason must come through all the same."""
    # Given a host that is not enrolled, and a token that is spent
    host = deployed.fleet.lab["bare1"]

    # When it is deployed
    played = deployed.controller.play("-vvv", token=deployed.token, hosts=host.name)

    # Then the play fails on it with the collector's words and without the token, and no service runs
    assert played.count("failed") == {host.name: 1}
    assert "The enrolment token is not valid" in played.output
    assert deployed.token not in played.output
    assert host.run("systemctl is-active fleet-agent", check=False).stdout.strip() == "inactive"

    # And with a good one, the next run finishes what that one began
    again = deployed.controller.play(token=deployed.fleet.token(), hosts=host.name)
    assert again.code == 0, again.output
    assert host.run("systemctl is-active fleet-agent").stdout.strip() == "active"
