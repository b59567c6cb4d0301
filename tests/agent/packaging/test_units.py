# SPDX-License-Identifier: Apache-2.0
"""Does the agent do its work under its own unit, with what that allows it and no more?"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.disk import USER
from tests.lab.fixtures import up_or_skip
from tests.lab.fleet import AGENT, Fleet
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.rundir import until
from tests.lab.spec import Spec
from tests.systemd import START_S, Service, complaints

lab_test = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

UNIT = "fleet-agent.service"
STATE = "/var/lib/cryptofleet/agent"
UNPACKED = "/run/fleet-agent"
LOCKED = "/run/cryptofleet/agent"
SWITCH = "/etc/cryptofleet/disabled"
CONFIG = "/etc/cryptofleet/agent.toml"
# As `systemd-analyze security` sums it up, in tenths; it was so before the service told systemd how it goes.
EXPOSURE_MAX = 33
# By the bit that the kernel gives each (include/uapi/linux/capability.h): the first lets it read every file,
# the second see into every process, the next two load tracing programs, the last open what is mapped.
CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": 19,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
# The usual places to unpack in are closed on this test's hosts.
BY_HAND = ["env", f"TMPDIR={STATE}", AGENT, "run", "--once"]
CERTIFICATE = "/srv/tls/site.pem"
# Services of another user: one has a cryptographic library mapped, the other reads a certificate's file.
OTHERS = {
    "other.service": f"""\
[Service]
User={USER}
ExecStart=/usr/bin/python3 -c "import ssl, time; time.sleep(1e6)"
""",
    "reader.service": f"""\
[Service]
User={USER}
ExecStart=/bin/sh -c 'while :; do cat {CERTIFICATE} >/dev/null; sleep 0.1; done'
""",
}


@pytest.fixture
def unit(house: Path) -> Path:
    """The unit file."""
    return house / "agent/packaging" / UNIT


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    """A directive that systemd does not know is a protection that is not there."""
    assert complaints(unit) == []
    # And it would be seen
    spoilt = tmp_path / UNIT
    spoilt.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert any("ProtectSytem" in line for line in complaints(spoilt))


@dataclass(frozen=True)
class Site:
    """A collector, a host where the agent runs as a service, and one that has it and is not enrolled.

    A third one, web2, is enrolled, and its service not started yet.
    """

    fleet: Fleet
    service: Service
    bare: Host

    @property
    def host(self) -> Host:
        return self.service.host

    def worker(self) -> int:
        """The agent itself; the service's first process only unpacked it, and rounds are children of it."""
        until(lambda: bool(self._worker()), START_S, "the agent does not unpack")
        return int(self._worker())

    def _worker(self) -> str:
        first = self.service.main_pid
        return self.host.run(["cat", f"/proc/{first}/task/{first}/children"], check=False).stdout.strip()

    def be_idle(self) -> None:
        """Wait until no round is at work."""
        until(lambda: len(self.service.pids) == 2, 120, "the round does not end")

    def reload(self, words: str) -> None:
        """Have the service read its configuration anew, and wait until it says so."""
        before = self.service.journal.count(words)
        self.host.run(["systemctl", "reload", UNIT])
        until(lambda: self.service.journal.count(words) > before, 60, f"it does not say: {words}")

    def section(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A section's state as the collector has it, and its entries."""
        tables = self.fleet.ask_json("show", self.host.name, "--section", name)["tables"]
        return tables["sections"][0], tables["entries"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path, house: Path) -> Iterator[Site]:
    """Hosts hardened as many are: nothing can be executed in /tmp and /run."""
    unit = (house / "agent/packaging" / UNIT).read_text()
    web = Spec("web1", files={CERTIFICATE: "-----BEGIN CERTIFICATE-----\n"}, units=OTHERS)
    with up_or_skip(Lab([web, "web2", "bare1"], init="systemd")) as lab:
        fleet = Fleet(lab, tmp_path_factory.mktemp("units") / "data", frozen_agent)
        fleet.serve()
        host, bare = lab["web1"], lab["bare1"]
        fleet.enrol(host)
        fleet.enrol(lab["web2"])
        for one in lab:
            one.put(frozen_agent, AGENT)
            one.write(f"/etc/systemd/system/{UNIT}", unit)
            one.run("mount -t tmpfs -o noexec tmpfs /tmp && mount -o remount,noexec /run")
            one.run("systemctl daemon-reload")
        host.write("/etc/default/fleet-agent", "RUN_OPTIONS=--window 2\n")
        # A test does not wait for a minute.
        host.write(f"/etc/systemd/system/{UNIT}.d/test.conf", "[Service]\nRestartSec=1\n")
        host.run(f"systemctl daemon-reload && systemctl start {UNIT}")
        yield Site(fleet, Service(host, UNIT), bare)


def test_the_unit_exposes_no_more_than_it_did(unit: Path) -> None:
    """By systemd's own count, which is no proof and a good alarm."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: (\d+)\.(\d)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot tell: {done.stderr.strip()}")
    assert int(found[1] + found[2]) <= EXPOSURE_MAX


def by_hand(host: Host) -> str:
    """Scan and post once, beside the service; what the agent says."""
    return host.run(BY_HAND, timeout_s=120).stderr


class TestUnderTheUnit:
    """In a host, as a service."""

    pytestmark = lab_test

    def test_systemd_finds_nothing_wrong_where_it_is_installed(self, site: Site) -> None:
        """There not even the program is missing."""
        done = site.host.run(["systemd-analyze", "verify", UNIT], check=False)
        assert [line for line in done.stderr.splitlines() if UNIT in line] == []

    def test_it_has_these_privileges_and_no_others(self, site: Site) -> None:
        """It is root among hostile files: what it cannot do, nobody can make it do."""
        service, worker = site.service, site.worker()
        for field in ("CapBnd", "CapEff", "CapPrm"):
            assert service.capabilities(worker, field) == set(CAPABILITIES.values()), field
        assert service.status(worker, "NoNewPrivs") == "1"
        # 2 is a filter. Source: proc(5), /proc/pid/status
        assert service.status(worker, "Seccomp") == "2"

    def test_it_can_write_to_its_own_directories_alone(self, site: Site) -> None:
        """It changes nothing on its host."""
        # Given every mount that the service sees, but for the kernel's own trees
        page = site.host.read(f"/proc/{site.service.main_pid}/mountinfo")
        mounts = {line.split()[4]: line.split()[5].split(",") for line in page.splitlines()}
        places = [path for path in mounts if path.split("/")[1] not in ("proc", "sys", "dev")]
        assert {"/", "/run", "/tmp"} < set(places)

        # Then those that can be written are its own, which a try confirms
        assert {path for path in places if "rw" in mounts[path]} == {STATE, UNPACKED, LOCKED}
        for path in ("/etc", "/root", "/home", "/run", "/tmp", "/var/lib/cryptofleet"):
            assert "Read-only file system" in site.service.inside(f"touch {path}/x").stderr, path
        assert site.service.inside(f"touch {STATE}/x && rm {STATE}/x").returncode == 0

    def test_its_directory_is_its_own(self, site: Site) -> None:
        """It holds the host's key; a directory beside it may be a collector's, who is another user."""
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")
        found = site.host.run(
            f"stat -c '%a %U %n' /var/lib/cryptofleet {STATE} {STATE}/*"
        ).stdout.splitlines()
        assert found[:2] == ["755 root /var/lib/cryptofleet", f"700 root {STATE}"]
        assert len(found) > 2
        assert all(line.startswith("600 root ") for line in found[2:]), found

    def test_it_sees_processes_of_other_users(self, site: Site) -> None:
        """An inventory of the agent's own user would look complete and say nothing."""
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")
        state, entries = site.section("processes")
        assert state["status"] == "complete", state
        used = {row["key"].split()[-1] for row in entries if " other.service " in row["key"]}
        assert any("libssl" in library for library in used), entries

    def test_the_agent_is_not_in_its_own_inventory(self, site: Site) -> None:
        """Its libraries lie in a directory with another name at every start: each would be a change."""
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")
        assert not [row for row in site.section("processes")[1] if "fleet-agent" in row["key"]]

    @pytest.mark.kernel
    def test_it_watches_file_opens_of_other_users(self, site: Site) -> None:
        """eBPF with three capabilities, no write access to anything, and a system call filter."""
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")
        state, _ = site.section("observed_files")
        if state["status"] == "failed":
            pytest.skip(f"this kernel does not let us watch: {state['reason']}")

        def seen() -> bool:
            return any(
                f" reader.service {CERTIFICATE}" in row["key"] for row in site.section("observed_files")[1]
            )

        until(seen, 120, "the reader was not seen")

    def test_it_unpacks_where_nothing_else_is_executable(self, site: Site) -> None:
        """In memory of its own, which the host does not see and which goes with it."""
        # Given a host where the usual places are closed
        mounts = site.host.run(["findmnt", "-n", "-o", "TARGET,OPTIONS", "/tmp"]).stdout
        assert "noexec" in mounts
        assert "noexec" in site.host.run(["findmnt", "-n", "-o", "OPTIONS", "/run"]).stdout

        # Then the agent is where it may be executed, and others do not see it
        worker = site.worker()
        mapped = site.host.read(f"/proc/{worker}/maps")
        assert f" {UNPACKED}/_MEI" in mapped
        assert site.host.run(["ls", "-A", UNPACKED]).stdout == ""
        assert site.service.inside(f"stat -c %a {UNPACKED}").stdout == "700\n"
        # And there is room for one more as large
        used, free = site.service.inside(f"df --output=used,avail -k {UNPACKED} | tail -1").stdout.split()
        assert int(used) < int(free)

    @pytest.mark.parametrize("victim", ["both", "first", "worker"])
    def test_it_is_there_again_after_it_was_killed_and_left_nothing(self, site: Site, victim: str) -> None:
        """The kernel kills it when memory is short, and that can happen every hour."""
        # Given the agent
        worker, first = site.worker(), site.service.main_pid
        victims = {"both": [first, worker], "first": [first], "worker": [worker]}[victim]

        # When processes of it are killed
        site.host.run(["kill", "-KILL", *map(str, victims)])

        # Then it runs again, nothing of the former is alive, and one unpacked agent is all there is
        again = site.service.wait_for_another(first)
        new = site.worker()
        alone = sorted([again, new])
        until(lambda: sorted(site.service.pids) == alone, 120, "something else is there, too")
        assert len(site.service.inside(f"ls -A {UNPACKED}").stdout.split()) == 1
        left = site.host.run("find / /run /tmp /dev/shm -xdev -name '_MEI*' 2>/dev/null", check=False)
        assert left.stdout == ""

    def test_it_goes_on_where_it_was_after_it_was_killed(self, site: Site) -> None:
        """Same host, same state: its key, its enrolment and its counter outlive it."""
        # Given a host that has posted
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")

        # When its agent is killed and, as it would wait after a restart, posts at once by hand
        site.host.run(["systemctl", "kill", "-s", "KILL", UNIT])
        said = by_hand(site.host)

        # Then that is a further post of the same host
        assert "accepted" in said or "unchanged" in said
        known = [row["host"] for row in site.fleet.ask_json("hosts")["tables"]["hosts"]]
        assert sorted(known) == ["web1", "web2"]

    @pytest.mark.kernel
    def test_it_stops_when_it_is_told_to_and_does_not_finish_its_window(self, site: Site) -> None:
        """A host that shuts down, and an upgrade, would wait for it."""
        # Given a host that is new and whose agent watches for an hour
        host = site.fleet.lab["web2"]
        service = Service(host, UNIT)
        host.write("/etc/default/fleet-agent", "RUN_OPTIONS=--window 3600\n")
        host.run(["systemctl", "start", UNIT])

        def watches() -> bool:
            listed = (host.run(["ls", "-l", f"/proc/{pid}/fd"], check=False).stdout for pid in service.pids)
            return "accepted" in service.journal or any("bpf" in descriptors for descriptors in listed)

        until(watches, 120, "it neither watches nor posts")
        if "accepted" in service.journal:
            reason = site.fleet.ask_json("show", host.name, "--section", "observed_files")["unknown"]
            pytest.skip(f"this kernel does not let us watch: {reason}")

        # When it is stopped
        host.run(["systemctl", "stop", UNIT])

        # Then it ended by itself, before systemd lost patience, and what it loaded is gone with it
        assert service.show("Result") == "success"
        assert "fleet-agent: stopped" in service.journal
        assert service.pids == []

    def test_it_is_ready_when_it_has_read_its_configuration_and_says_how_it_goes(self, site: Site) -> None:
        """`systemctl start` returns when there is something that works, and `status` shows it."""
        until(lambda: "accepted" in site.service.journal, 120, "nothing was posted")
        site.be_idle()
        assert site.service.show("ActiveState") == "active"
        assert site.service.show("NotifyAccess") == "all"
        until(lambda: "next round at " in site.service.show("StatusText"), 30, "it does not tell")

    def test_what_is_bad_in_its_configuration_is_told_and_the_old_one_stays(self, site: Site) -> None:
        """A typing error must not end the watch over a host."""
        site.be_idle()
        first, worker = site.service.main_pid, site.worker()
        site.host.write(CONFIG, "windows_s = 2\n")
        site.reload(
            "the new configuration is not used, and the old one is: /etc/cryptofleet/agent.toml: windows_s"
        )
        site.host.write(CONFIG, "[budget]\nmemory_mib = 256\n")
        site.reload("the configuration was read anew")
        site.host.run(["rm", CONFIG])
        site.reload("the configuration was read anew")
        assert (site.service.main_pid, site.worker()) == (first, worker)
        assert site.service.show("ActiveState") == "active"

    def test_a_bad_configuration_at_the_start_is_the_reason_why_it_failed(self, site: Site) -> None:
        """And not some minutes later, when the first round is due."""
        host = site.fleet.lab["web2"]
        service = Service(host, UNIT)
        host.run(["systemctl", "stop", UNIT])
        host.write(CONFIG, "nonsense\n")
        done = host.run(["systemctl", "start", UNIT], check=False)
        host.run(["systemctl", "stop", UNIT])
        host.run(["rm", CONFIG])
        assert done.returncode != 0
        assert f"fleet-agent: {CONFIG} is not TOML" in service.journal

    def test_while_it_is_switched_off_there_are_no_rounds(self, site: Site) -> None:
        """Also not by hand, and both say why."""
        site.be_idle()
        site.host.write(SWITCH, "incident 4711\n")
        # It looks for the switch once a minute, and whenever it is woken.
        site.reload("the configuration was read anew")
        until(lambda: "incident 4711; no rounds" in site.service.journal, 90, "it does not see the switch")
        assert "switched off by" in site.service.show("StatusText")
        done = site.host.run(BY_HAND, check=False, timeout_s=120)
        assert (done.returncode, "incident 4711" in done.stderr) == (1, True), done.stderr
        site.host.run(["rm", SWITCH])
        site.reload("the configuration was read anew")
        until(lambda: "switched on again" in site.service.journal, 90, "it does not see that it is gone")
        assert site.service.journal.count("incident 4711") == 1

    def test_a_scan_by_hand_and_a_round_share_one_lock(self, site: Site) -> None:
        """Which only root can even see, and which outlives the service."""
        site.be_idle()
        by_hand(site.host)
        found = site.host.run(f"stat -c '%a %U' {LOCKED} {LOCKED}/lock").stdout.splitlines()
        assert found == ["700 root", "600 root"]
        as_user = site.host.run(["setpriv", "--reuid=65534", "--clear-groups", "ls", LOCKED], check=False)
        assert "Permission denied" in as_user.stderr

    def test_one_that_hangs_is_killed_by_systemd_and_started_again(self, site: Site) -> None:
        """Here it is stopped, so that it can do nothing any more, not even end."""
        # Given a watchdog that is not as patient as the unit's
        drop_in = f"/etc/systemd/system/{UNIT}.d/watchdog.conf"
        site.host.write(drop_in, "[Service]\nWatchdogSec=3\n")
        site.host.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
        site.be_idle()
        first, worker = site.service.main_pid, site.worker()
        # And that is fed: more than its time passes, and nothing happens
        time.sleep(5)
        assert site.service.main_pid == first

        # When the agent hangs
        site.host.run(["kill", "-STOP", str(worker)])

        # Then it is killed, and another is there
        site.service.wait_for_another(first)
        assert site.host.run(["test", "-d", f"/proc/{worker}"], check=False).returncode != 0
        assert "Watchdog timeout" in site.service.journal
        site.worker()
        site.host.run(f"rm {drop_in} && systemctl daemon-reload && systemctl restart {UNIT}")

    def test_a_host_that_is_not_enrolled_starts_nothing(self, site: Site) -> None:
        """An image with the agent in it must not fail at every boot until somebody enrols it."""
        site.bare.run(["systemctl", "start", UNIT])
        service = Service(site.bare, UNIT)
        assert service.show("ConditionResult") == "no"
        assert service.show("ActiveState") == "inactive"
