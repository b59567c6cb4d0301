# SPDX-License-Identifier: Apache-2.0
"""Is pid 1 of a host a real systemd, which runs what the Spec asks for and nothing of the machine's?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.errors import LabError
from tests.lab.fixtures import up_or_skip
from tests.lab.lab import Lab
from tests.lab.spec import File, Spec

pytestmark = [pytest.mark.root, pytest.mark.lab]

SLEEPER = "[Service]\nExecStart=/bin/sh /opt/sleeper %p\n"
UNITS = {
    "planted.service": SLEEPER,
    "ticking.timer": "[Timer]\nOnActiveSec=1d\n",
    "ticking.service": SLEEPER,
    "many@.service": SLEEPER,
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A host with planted units, one with a unit that fails, and a fresh one."""
    planted = Spec(
        "planted",
        files={"/opt/sleeper": File('echo "this is $1" >&2; exec sleep 5432\n')},
        units=UNITS,
        start=("systemd-tmpfiles-clean.timer",),
    )
    broken = Spec("broken", units={"broken.service": "[Service]\nExecStart=/bin/false\n"})
    with up_or_skip(Lab([planted, broken, "fresh"], init="systemd")) as lab:
        yield lab


def states(lab: Lab, host: str, *units: str) -> list[str]:
    """What systemd says of each unit."""
    return lab[host].run(["systemctl", "is-active", *units], check=False).stdout.split()


def test_a_host_is_running_when_the_lab_is_up(lab: Lab) -> None:
    """A test must not race with the boot of its hosts."""
    # When each host is asked, without waiting
    answers = {host.name: host.run("systemctl is-system-running", check=False).stdout.strip() for host in lab}

    # Then the boot is over everywhere, and only the host with a broken unit says so
    assert answers == {"planted": "running", "broken": "degraded", "fresh": "running"}
    assert lab["broken"].run("systemctl --failed --plain --no-legend").stdout.split()[0] == "broken.service"


def test_planted_units_run_now_and_after_a_crash(lab: Lab) -> None:
    """A planted service is what a scanner is to find, by its unit's name."""
    host = lab["planted"]
    wanted = ["planted.service", "ticking.timer", "systemd-tmpfiles-clean.timer"]
    for boot in range(2):
        # When the host has booted, for the first time or again
        if boot:
            host.reboot()

        # Then what was planted and named runs, but not what a timer or an instance would start
        assert states(lab, "planted", *wanted) == ["active"] * 3
        assert states(lab, "planted", "ticking.service", "many@one.service") == ["inactive"] * 2
        main = host.run("systemctl show --value --property=MainPID planted.service").stdout.strip()
        groups = host.read(f"/proc/{main}/cgroup").splitlines()
        assert "0::/system.slice/planted.service" in groups
        journal = host.run("journalctl --unit=planted.service --output=cat --no-pager").stdout
        assert "this is planted" in journal


def test_nothing_of_the_machine_runs_in_a_fresh_host(lab: Lab) -> None:
    """Its services would be findings that no test planted, and could change the kernel's settings."""
    # When a fresh host lists its processes
    commands = lab["fresh"].run("ps -e -o comm=").stdout.split()

    # Then there are systemd, its journal and sshd, and who asked
    assert sorted({*commands}) == ["ps", "sh", "sshd", "systemd", "systemd-journal"]
    assert lab["fresh"].run("systemctl is-active systemd-sysctl.service", check=False).stdout == "inactive\n"


def test_a_unit_that_the_base_lacks_is_named() -> None:
    """The test's author learns which package is missing, and no lab is left."""
    lab = Lab([Spec("h1", start=("no-such-thing.service",))], init="systemd")
    with pytest.raises(LabError, match=r"h1: the base has no unit 'no-such-thing\.service'"), up_or_skip(lab):
        pytest.fail("it came up without its unit")
    assert not lab.directory.exists()
