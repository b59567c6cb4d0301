# SPDX-License-Identifier: Apache-2.0
"""What the host runs on: fixtures of several distributions, and this machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.asset import AnyAsset, CryptoPolicy, FipsMode, Kernel, OperatingSystem
from agent.scanners import Scan
from agent.scanners.host import scan

DEBIAN = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION_CODENAME=bookworm
ID=debian
"""
RHEL = """\
# a comment
NAME="Red Hat Enterprise Linux"
ID="rhel"
VERSION_ID='9.4'
PRETTY_NAME="Red Hat \\"Enterprise\\" Linux 9.4 (Plow)"
VERSION_CODENAME=
"""


def host(root: Path, pages: dict[str, str]) -> Host:
    """A fixture with these files."""
    for path, page in pages.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(page)
    return Host(str(root))


def assets(found: Scan) -> dict[str, AnyAsset]:
    """By key."""
    return {entry.key: entry.asset for entry in found.entries}


def test_a_debian_host_is_told(tmp_path: Path) -> None:
    """No crypto policies and a kernel without FIPS are facts, and entries."""
    debian = host(
        tmp_path,
        {"usr/lib/os-release": DEBIAN, "etc/x": "", "proc/sys/kernel/osrelease": "6.1.0-28-amd64\n"},
    )
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")

    found = scan(debian)

    assert found.status == "complete"
    assert assets(found) == {
        "os": OperatingSystem(
            id="debian", name="Debian GNU/Linux 12 (bookworm)", version="12", codename="bookworm"
        ),
        "kernel": Kernel(release="6.1.0-28-amd64", machine="unknown"),
        "fips": FipsMode(enabled=False, supported=False),
        "crypto-policy": CryptoPolicy(present=False),
    }
    (where,) = (entry.where for entry in found.entries if entry.key == "os")
    assert (where.path, where.aliases) == ("/usr/lib/os-release", ("/etc/os-release",))


def test_a_rhel_host_in_fips_mode_is_told(tmp_path: Path) -> None:
    """What was asked for and what is applied may differ; a policy may have modules."""
    rhel = host(
        tmp_path,
        {
            "etc/os-release": RHEL,
            "proc/sys/kernel/osrelease": "5.14.0-427.el9.x86_64\n",
            "proc/sys/crypto/fips_enabled": "1\n",
            "etc/crypto-policies/config": "# comment\n\nFIPS:OSPP  # not a word of it\n",
            "etc/crypto-policies/state/current": "DEFAULT\n",
        },
    )

    found = assets(scan(rhel))

    assert found["os"] == OperatingSystem(
        id="rhel", name='Red Hat "Enterprise" Linux 9.4 (Plow)', version="9.4", codename=None
    )
    assert found["fips"] == FipsMode(enabled=True, supported=True)
    assert found["crypto-policy"] == CryptoPolicy(present=True, configured="FIPS:OSPP", applied="DEFAULT")


def test_an_empty_host_is_absent(tmp_path: Path) -> None:
    """Where there is no /etc, the absence of a crypto policy says nothing."""
    found = scan(Host(str(tmp_path)))

    assert (found.status, found.entries) == ("absent", [])


def test_a_page_that_cannot_be_read_makes_no_claim(tmp_path: Path) -> None:
    """Unknown is not `no`: neither the operating system nor the policy may be told as absent."""
    broken = host(tmp_path, {"proc/sys/kernel/osrelease": "6.1\n"})
    for path in ("etc/os-release", "etc/crypto-policies/config", "proc/sys/crypto/fips_enabled"):
        (tmp_path / path).mkdir(parents=True)

    found = scan(broken)

    assert set(assets(found)) == {"kernel"}
    assert (found.status, found.skipped) == ("partial", {"unreadable": 3})


@pytest.mark.parametrize("page", ["", "ID", 'NAME="open', "=x\n\nID=''\n"])
def test_a_damaged_os_release_is_a_linux(page: str, tmp_path: Path) -> None:
    """os-release(5) says what a missing ID means."""
    found = assets(scan(host(tmp_path, {"etc/os-release": page})))

    assert found["os"] == OperatingSystem(id="linux")


def test_this_machine_reads_as_others_read_it() -> None:
    """uname(1), Python's own reader of os-release, and the kernel's page."""
    found = assets(scan(Host()))

    theirs = platform.freedesktop_os_release()
    system, kernel, fips = found["os"], found["kernel"], found["fips"]
    assert isinstance(system, OperatingSystem)
    assert (system.id, system.name) == (theirs["ID"], theirs["PRETTY_NAME"])
    assert system.version == theirs.get("VERSION_ID")
    uname = subprocess.run(["uname", "-r", "-m"], capture_output=True, text=True, check=True).stdout.split()
    assert isinstance(kernel, Kernel)
    assert [kernel.release, kernel.machine] == uname
    assert isinstance(fips, FipsMode)
    assert fips.supported == os.path.exists("/proc/sys/crypto/fips_enabled")
