# SPDX-License-Identifier: Apache-2.0
"""Does the collector do its work under its own unit, as its own user, and beside an agent?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleet.packaging.installed import COMMAND, install
from tests.lab.fixtures import up_or_skip
from tests.lab.fleet import AGENT, PORT
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.rundir import until
from tests.systemd import START_S, Service, complaints

lab_test = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

UNIT = "fleet-collector.service"
USER = "cryptofleet"
DATA = "/var/lib/cryptofleet/collector"


@pytest.fixture
def unit(house: Path) -> Path:
    """The unit file."""
    return house / "fleet/packaging" / UNIT


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    """A directive that systemd does not know is a protection that is not there."""
    assert complaints(unit) == []
    # And it would be seen
    spoilt = tmp_path / UNIT
    spoilt.write_text(unit.read_text().replace("PrivateDevices=", "PrivateDevice="))
    assert any("PrivateDevice" in line for line in complaints(spoilt))


@dataclass(frozen=True)
class Site:
    """The host with the collector and an agent of its own, and one with an agent alone."""

    service: Service
    other: Host

    @property
    def host(self) -> Host:
        return self.service.host

    @property
    def pin(self) -> str:
        found = re.search(r"^ca pin (sha256:[0-9a-f]{64})$", self.service.journal, re.MULTILINE)
        assert found is not None, self.service.journal
        return found[1]

    def ask(self, *words: str) -> str:
        """What `fleet` prints when an operator asks as the collector's user."""
        return self.host.run(["runuser", "-u", USER, "--", COMMAND, *words]).stdout

    def hosts(self) -> dict[str, str]:
        """The identity of every host that has posted, by name."""
        rows = json.loads(self.ask("hosts", "--format", "json"))["tables"]["hosts"]
        return {row["host"]: row["host_id"] for row in rows if row["sections"]}

    def enrol(self, host: Host) -> str:
        """Make a host one of the fleet, with a token that the operator makes."""
        return host.run(
            [AGENT, "enroll", f"--url=https://fleet1:{PORT}", f"--pin={self.pin}", "--token-file=-"],
            feed=self.ask("token", "create"),
        ).stdout


def serves(service: Service) -> None:
    """Wait until it accepts connections."""
    count = service.journal.count("Started ")
    until(lambda: service.journal.count("listening on ") >= count, START_S, "the collector does not listen")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path, house: Path) -> Iterator[Site]:
    """As the comments in the files say it is installed."""
    packaging = house / "fleet/packaging"
    with up_or_skip(Lab(["fleet1", "web1"], init="systemd")) as lab:
        host, other = lab["fleet1"], lab["web1"]
        install(host, house, tmp_path_factory.mktemp("wheel"))
        host.write("/usr/lib/sysusers.d/cryptofleet.conf", (packaging / "cryptofleet.sysusers").read_text())
        host.run(["systemd-sysusers"])
        host.write(f"/etc/systemd/system/{UNIT}", (packaging / UNIT).read_text())
        host.write("/etc/default/fleet-collector", "SERVE_OPTIONS=--name fleet1\n")
        agent_unit = (house / "agent/packaging/fleet-agent.service").read_text()
        for one in lab:
            one.put(frozen_agent, AGENT)
            one.write("/etc/systemd/system/fleet-agent.service", agent_unit)
            one.write("/etc/default/fleet-agent", "RUN_OPTIONS=\n")
            one.run("systemctl daemon-reload")
        host.run(["systemctl", "start", UNIT])
        service = Service(host, UNIT)
        serves(service)
        yield Site(service, other)


class TestUnderTheUnit:
    """In a host, as a service."""

    pytestmark = lab_test

    def test_systemd_finds_nothing_wrong_where_it_is_installed(self, site: Site) -> None:
        """There not even the program is missing."""
        done = site.host.run(["systemd-analyze", "verify", UNIT], check=False)
        assert [line for line in done.stderr.splitlines() if UNIT in line] == []

    def test_it_is_its_own_user_without_any_privilege(self, site: Site) -> None:
        """It parses what strangers send."""
        service, pid = site.service, site.service.main_pid
        number = site.host.run(["id", "-u", USER]).stdout.strip()
        assert service.status(pid, "Uid").split() == [number] * 4
        for field in ("CapBnd", "CapEff", "CapPrm", "CapAmb"):
            assert service.capabilities(pid, field) == set(), field
        assert service.status(pid, "NoNewPrivs") == "1"
        # 2 is a filter. Source: proc(5), /proc/pid/status
        assert service.status(pid, "Seccomp") == "2"

    def test_what_it_keeps_is_for_it_alone(self, site: Site) -> None:
        """Whoever reads it can speak for the collector, and find out whom a pseudonym means."""
        found = site.host.run(f"find {DATA} -printf '%m %u %P\\n'").stdout.splitlines()
        assert "600 cryptofleet fleet.db" in found
        assert "600 cryptofleet ca/ca.key" in found
        assert all(re.match(r"[67]00 cryptofleet ", line) for line in found), found

    def test_it_can_write_to_its_own_directories_alone(self, site: Site) -> None:
        """A weakness in it must not become a file somewhere else."""
        page = site.host.read(f"/proc/{site.service.main_pid}/mountinfo")
        mounts = {line.split()[4]: line.split()[5].split(",") for line in page.splitlines()}
        places = [path for path in mounts if path.split("/")[1] not in ("proc", "sys", "dev")]
        assert {path for path in places if "rw" in mounts[path]} == {DATA, "/tmp", "/var/tmp"}

    def test_an_agent_beside_it_and_one_elsewhere_report_to_it(self, site: Site) -> None:
        """The collector's machine is a host like others; the two share a directory's parent and no more."""
        # When both hosts are enrolled and their agents started
        for host in (site.host, site.other):
            assert site.enrol(host).startswith("enrolled as h-")
            host.run(["systemctl", "start", "fleet-agent"])

        # Then the operator sees an inventory of each
        until(lambda: set(site.hosts()) == {"fleet1", "web1"}, 120, "the collector has not heard of both")
        directories = site.host.run("stat -c '%a %U' /var/lib/cryptofleet /var/lib/cryptofleet/*").stdout
        assert directories.splitlines() == ["755 root", "700 root", "700 cryptofleet"]
        # And the collector is seen by the agent beside it as what it is, a user of cryptography
        shown = json.loads(site.ask("show", "fleet1", "--section", "processes", "--format", "json"))
        assert any(f" {UNIT} " in row["key"] for row in shown["tables"]["entries"])

    def test_it_is_there_again_after_it_was_killed(self, site: Site) -> None:
        """With the same CA: agents that were enrolled before know it by that."""
        # Given a collector with hosts
        pin, pid = site.pin, site.service.main_pid
        before = site.hosts()

        # When it is killed
        site.host.run(["systemctl", "kill", "-s", "KILL", UNIT])
        site.service.wait_for_another(pid)
        serves(site.service)

        # Then it is the same collector, with the same hosts, and takes a post
        assert re.findall(r"^ca pin (.*)$", site.service.journal, re.MULTILINE)[-1] == pin
        assert site.hosts() == before
        site.other.run(["systemctl", "stop", "fleet-agent"])
        # Whatever ran there meanwhile may have been seen in use, and then it is not the same inventory.
        assert re.search("unchanged|accepted", site.other.run([AGENT, "run", "--once"]).stderr)

    def test_it_stops_when_it_is_told_to(self, site: Site) -> None:
        """An orderly end is not a failure that somebody is woken up for."""
        site.host.run(["systemctl", "stop", UNIT])
        assert site.service.show("Result") == "success"
        assert site.service.pids == []
        site.host.run(["systemctl", "start", UNIT])
        serves(site.service)
