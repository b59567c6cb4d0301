# SPDX-License-Identifier: Apache-2.0
"""What is on a host's disk when it boots for the first time?

The base tree (usually the machine's own /) lies below, read-only; the host's changes go to a tmpfs of limited
size above it. Of the base a host sees what the distribution put there and nothing of what the machine is used
for, so that two fresh hosts differ in their name, machine id and SSH host keys alone.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
from pathlib import Path

from tests.lab import kernel, units
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.network import HUB_ADDRESS
from tests.lab.spec import Job, Plan

# What a distribution puts at the top. Whatever else stands there is the machine's own. Source: hier(7)
TOP_LEVEL = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt"),
        *("proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    }
)

# Places that belong to the machine's administrator and its users: a host has them empty.
EMPTIED = (
    *("boot", "home", "media", "mnt", "opt", "root", "srv", "tmp", "usr/local", "usr/src"),
    # What the machine starts by itself must not start in a host.
    *("etc/cron.d", "etc/systemd/network", "etc/systemd/system", "etc/systemd/user"),
    *(f"etc/rc{level}.d" for level in "0123456S"),
    # Logs, caches, queues and the data of services.
    *("var/backups", "var/cache", "var/crash", "var/local", "var/log", "var/mail", "var/opt", "var/spool"),
    *("var/tmp", "var/lib/apt", "var/lib/cloud", "var/lib/containerd", "var/lib/docker", "var/lib/mysql"),
    *("var/lib/postgresql", "var/lib/private", "var/lib/snapd", "var/lib/systemd"),
)

# What is bare when emptied, but expected by programs: path -> mode.
EXPECTED = {
    **dict.fromkeys(("proc", "sys", "dev", "run", "var/log", "var/cache", "var/lib/systemd"), 0o755),
    **dict.fromkeys(("usr/local/bin", "usr/local/sbin", "usr/local/lib", "usr/local/share"), 0o755),
    **dict.fromkeys(("etc/systemd/system", "var/spool/cron", "home", "mnt", "opt", "srv"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
    "var/spool/cron/crontabs": 0o700,
}

# A user who is not root, for logins over ssh; the number is a person's, from 1000 on.
USER, USER_ID = "deploy", 1500


def make_disk(job: Job, plan: Plan) -> str:
    """The directory that becomes the host's root; made on its first boot, found again on later ones.

    Raises:
        LabRefusedError: the kernel knows no overlayfs, or forbids it here.
        LabError: a file of the Spec leads out of the host, or the base lacks a unit.
    """
    disk = f"{job.directory}/disks/{plan.name}"
    root = f"{disk}/root"
    if os.path.ismount(root):
        return root
    os.makedirs(disk)
    try:
        kernel.mount("tmpfs", disk, "tmpfs", data=f"size={job.disk},mode=755")
        for part in ("upper", "work", "root"):
            os.mkdir(f"{disk}/{part}", 0o755)
        _hide(job, f"{disk}/upper")
        kernel.mount(
            "overlay", root, "overlay", data=f"lowerdir={job.base},upperdir={disk}/upper,workdir={disk}/work"
        )
    except OSError as error:
        raise LabRefusedError(f"this machine cannot lay an overlay over {job.base}: {error}") from error
    for path, mode in EXPECTED.items():
        os.makedirs(f"{root}/{path}", exist_ok=True)
        os.chmod(f"{root}/{path}", mode)
    _name(job, plan, root)
    _make_host_keys(job, plan, root)
    _let_in(plan, root)
    if job.init == "systemd":
        units.plant(root, plan)
    for path, (content, mode) in plan.files.items():
        put(root, path, base64.b64decode(content), mode)
    return root


def put(root: str, path: str, content: str | bytes, mode: int = 0o644) -> None:
    """Write one file below `root`, in the place of what had its name.

    Raises:
        LabError: the directory leads out of `root` through an absolute symbolic link, onto the machine's own
        disk.
    """
    target = f"{root}/{path.lstrip('/')}"
    parent = os.path.dirname(target)
    if not f"{os.path.realpath(parent)}/".startswith(f"{os.path.realpath(root)}/"):
        raise LabError(
            f"{path} leads out of the host through a symbolic link; write to where the link points"
        )
    os.makedirs(parent, exist_ok=True)
    if os.path.lexists(target):
        os.unlink(target)
    with open(target, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.chmod(target, mode)


def _make_host_keys(job: Job, plan: Plan, root: str) -> None:
    """Make the host's own SSH host keys, in the place of the base's, and have them known."""
    for key in Path(root, "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for kind in plan.host_keys:
        algorithm, _, bits = kind.partition(":")
        path = f"{root}/etc/ssh/ssh_host_{algorithm}_key"
        size = ["-b", bits] if bits else []
        argv = ["ssh-keygen", "-q", "-t", algorithm, *size, "-N", "", "-C", f"root@{plan.name}", "-f", path]
        done = subprocess.run(argv, text=True, capture_output=True, check=False)
        if done.returncode:
            raise LabError(f"{plan.name}: no host key {kind!r}: {(done.stderr or done.stdout).strip()}")
        public = " ".join(Path(f"{path}.pub").read_text().split()[:2])
        with open(f"{job.directory}/known_hosts", "a") as known:
            known.write(f"{plan.name},{plan.cable.address} {public}\n")


def _hide(job: Job, upper: str) -> None:
    """Cover in the upper layer what a host must not see of the base.

    Source: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
    """
    for name in os.listdir(job.base):
        if name not in TOP_LEVEL:
            _white_out(f"{upper}/{name}")
    for path in EMPTIED:
        if os.path.isdir(f"{job.base}/{path}") and not os.path.islink(f"{job.base}/{path}"):
            _mirror(job.base, upper, path)
            os.setxattr(f"{upper}/{path}", "trusted.overlay.opaque", b"y")
    # The product's checkout and the lab's own key, should they lie in a directory that hosts do see.
    for private in (job.checkout, job.directory):
        covered = private.split("/")[1] not in TOP_LEVEL or private.startswith(
            tuple(f"/{path}/" for path in EMPTIED)
        )
        if not covered and os.path.isdir(f"{job.base}/{private}"):
            _mirror(job.base, upper, os.path.dirname(private))
            _white_out(f"{upper}{private}")


def _white_out(path: str) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def _mirror(base: str, upper: str, path: str) -> None:
    """Make the directory `path` in the upper layer, with the owner and mode it has below."""
    sofar = ""
    for name in filter(None, path.split("/")):
        sofar = f"{sofar}/{name}"
        if not os.path.isdir(upper + sofar):
            below = os.stat(base + sofar)
            os.mkdir(upper + sofar)
            os.chown(upper + sofar, below.st_uid, below.st_gid)
            os.chmod(upper + sofar, stat.S_IMODE(below.st_mode))
            os.utime(upper + sofar, ns=(below.st_mtime_ns, below.st_mtime_ns))


def _name(job: Job, plan: Plan, root: str) -> None:
    """The files that tell a host who it is; only its name and its machine id are unlike other hosts'."""
    addresses = "".join(f"{address} {name}\n" for name, address in job.names.items())
    put(root, "etc/hostname", f"{plan.name}\n")
    put(root, "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{HUB_ADDRESS} controller\n{addresses}")
    put(root, "etc/machine-id", f"{plan.machine_id}\n", 0o444)
    if os.path.isdir(f"{root}/var/lib/dbus"):
        put(root, "var/lib/dbus/machine-id", f"{plan.machine_id}\n", 0o444)
    # The lab's network has no name servers and its hosts no other disks.
    put(root, "etc/resolv.conf", "")
    put(root, "etc/fstab", "")


def _let_in(plan: Plan, root: str) -> None:
    """Let the controller log in over ssh, leaving the distribution's configuration of sshd as it is.

    The lab's own settings are options on sshd's command line and its key lies in /run: no scanner of files
    meets them.
    """
    if plan.sshd_config:
        distribution = Path(root, "etc/ssh/sshd_config").read_text()
        put(root, "etc/ssh/sshd_config", f"{plan.sshd_config.rstrip()}\n{distribution}")
    # Without PAM sshd takes "!" for a locked account, even when the login is by key. Source: sshd(8),
    # Authentication
    shadow = Path(root, "etc/shadow")
    shadow.write_text(re.sub("^root:!", "root:*", shadow.read_text(), flags=re.MULTILINE))
    for path, line in (
        ("etc/passwd", f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/sh\n"),
        ("etc/group", f"{USER}:x:{USER_ID}:\n"),
        ("etc/shadow", f"{USER}:*:20000::::::\n"),
    ):
        with open(f"{root}/{path}", "a") as file:
            file.write(line)
    os.mkdir(f"{root}/home/{USER}", 0o755)
    os.chown(f"{root}/home/{USER}", USER_ID, USER_ID)
    if os.path.isdir(f"{root}/etc/sudoers.d"):
        put(root, f"etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
