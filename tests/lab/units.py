# SPDX-License-Identifier: Apache-2.0
"""Which units run in a host whose pid 1 is systemd?

A host is a machine that was just installed: of the base's units only those run that every system needs, sshd,
and what its Spec names. What the Spec brings stands in /etc as an administrator would have put it; what the
lab itself needs stands in /run, which is empty at every boot. The distribution's files stay as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.spec import Plan

# By way of /lib they are found with and without a merged /usr.
SYSTEMD = "lib/systemd/systemd"
UNITS = "lib/systemd/system"
GENERATORS = "lib/systemd/system-generators"
SSH_UNITS = ("ssh.service", "sshd.service")

# Units that the distribution's targets want and that a host may have. All else either belongs to hardware and
# disks, which are the machine's, or writes to kernel settings, which all hosts share.
WANTED = frozenset(
    {
        "dbus.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald.service",
        "systemd-journald.socket",
        "systemd-tmpfiles-setup.service",
        "systemd-user-sessions.service",
    }
)

AUTHORIZED_KEYS = "run/lab/authorized_keys"
# PAM would want an audit login id, which only the machine may set; MaxStartups lets a whole test suite log in
# at once.
SSHD_OPTIONS = f"-o UsePAM=no -o AuthorizedKeysFile=/{AUTHORIZED_KEYS} -o MaxStartups=100:30:200"

# Auditing and the kernel log are the machine's, and a journal in memory goes with the host.
JOURNALD = "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\nAudit=no\nReadKMsg=no\n"


def find_ssh_unit(tree: str) -> str:
    """The name of the unit that runs the tree's sshd; empty if there is none."""
    return next((name for name in SSH_UNITS if os.path.exists(f"{tree}/{UNITS}/{name}")), "")


def plant(root: str, plan: Plan) -> None:
    """Put the Spec's units into /etc and enable them.

    Raises:
        LabError: `start` names a unit that the base does not have.
    """
    for name, text in plan.units.items():
        target = Path(root, "etc/systemd/system", name)
        target.write_text(text)
        target.chmod(0o644)
    for name in plan.start:
        # An instance, getty@tty1.service, is a link to its template, getty@.service.
        file = re.sub(r"@.*\.", "@.", name)
        if not os.path.exists(f"{root}/{UNITS}/{file}"):
            raise LabError(
                f"{plan.name}: the base has no unit {name!r}; install the package that brings it first"
            )
        _want(root, "etc", "multi-user.target", name, f"/{UNITS}/{file}")
    for name in plan.units:
        if not _started_by_another(name, plan):
            _want(root, "etc", "multi-user.target", name, f"../{name}")


def write_run(root: str, authorized_key: str) -> None:
    """Put into the host's empty /run what its systemd reads at this boot."""
    system = Path(root, "run/systemd/system")
    system.mkdir(parents=True)
    (system / "default.target").symlink_to(f"/{UNITS}/multi-user.target")
    # An entry of this name that is empty takes the wish back. Source: systemd.unit(5), "symlink to /dev/null"
    for wish in Path(root, UNITS).glob("*.wants/*"):
        if wish.name not in WANTED:
            _want(root, "run", wish.parent.name.removesuffix(".wants"), wish.name, "/dev/null")
    # Generators make units of the machine's disks, kernel command line and boot scripts.
    generators = Path(root, "run/systemd/system-generators")
    generators.mkdir()
    for generator in Path(root, GENERATORS).glob("*"):
        (generators / generator.name).symlink_to("/dev/null")
    ssh = find_ssh_unit(root)
    _want(root, "run", "multi-user.target", ssh, f"/{UNITS}/{ssh}")
    _drop_in(root, f"system/{ssh}.d", f"[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D {SSHD_OPTIONS}\n")
    _drop_in(root, "journald.conf.d", JOURNALD)
    write_authorized_key(root, authorized_key)


def write_authorized_key(root: str, authorized_key: str) -> None:
    """Put the controller's public key into the host's empty /run."""
    file = Path(root, AUTHORIZED_KEYS)
    file.parent.mkdir()
    file.write_text(authorized_key)


def _drop_in(root: str, folder: str, text: str) -> None:
    file = Path(root, "run/systemd", folder, "lab.conf")
    file.parent.mkdir(parents=True)
    file.write_text(text)


def _want(root: str, layer: str, target: str, unit: str, where: str) -> None:
    link = Path(root, layer, "systemd/system", f"{target}.wants", unit)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(where)


def _started_by_another(name: str, plan: Plan) -> bool:
    stem, _, kind = name.rpartition(".")
    triggers = (f"{stem}.{trigger}" for trigger in ("timer", "socket", "path"))
    return stem.endswith("@") or (kind == "service" and any(trigger in plan.units for trigger in triggers))
