# SPDX-License-Identifier: Apache-2.0
"""Which labs are up on this machine, to whom do they belong, and how does one end?

A lab is a directory below the run directory and a control group whose name follows from it; nothing else
outlives its processes, because the kernel frees namespaces, mounts and cables with the last process that is
in them. So a lab can be ended by anybody who knows its name, also when the process that began it was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypedDict

from tests.lab.errors import LabError, LabRefusedError
from tests.lab.spec import NAME

# Where the product under test is developed, and where the modules of this library find one another.
CHECKOUT = Path(__file__).resolve().parents[2]

# In a directory that hosts see empty, because the key that logs in to them lies here.
RUN_DIR = "/var/tmp/cryptofleet-lab"
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
# What systemd takes of it at boot, and dbus with a service or two later.
INOTIFY_PER_SYSTEMD = 8

# What says that a directory is a lab, and whose.
OWNER = "owner.json"


class Owner(TypedDict):
    """A process, by its number and by when it started."""

    pid: int
    started: str


def run_dir() -> Path:
    """Where all labs keep their state; LAB_DIR overrides."""
    return Path(os.environ.get("LAB_DIR", RUN_DIR)).resolve()


def directory_of(name: str) -> Path:
    """The directory of the lab of that name.

    Raises:
        LabError: the name could lead elsewhere.
    """
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot name a lab: use letters, digits and hyphens")
    return run_dir() / name


def cgroup_root() -> Path:
    """Where the version 2 hierarchy is mounted: /sys/fs/cgroup, or beside version 1.

    Raises:
        LabRefusedError: it is not mounted, or the kernel is older than 5.14, where a group cannot be killed
        at once.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, fstype, *_ = line.split()
        if fstype == "cgroup2":
            return Path(target)
    raise LabRefusedError("no cgroup2 hierarchy is mounted; mount -t cgroup2 none /sys/fs/cgroup")


def cgroup_of(directory: Path) -> Path:
    """The control group of the lab in that directory; labs of two run directories may have one name."""
    digest = hashlib.sha256(str(directory.parent).encode()).hexdigest()[:6]
    return cgroup_root() / f"cryptofleet-lab-{digest}-{directory.name}"


def claim(directory: Path, *, kept: bool) -> None:
    """Make the directory of a new lab, after ending every lab whose owner died.

    Args:
        directory: below `run_dir()`.
        kept: the lab shall outlive this process. Such a lab gives way to the next of its name.

    Raises:
        LabError: the name is taken by a living process.
    """
    with _locked(directory.parent):
        for file in directory.parent.glob(f"*/{OWNER}"):
            owner = _owner(file)
            if _died(owner) if owner else file.parent == directory:
                end(file.parent)
            elif owner and file.parent == directory:
                pid = owner["pid"]
                raise LabError(f"lab {directory.name!r} belongs to process {pid}; choose another name")
        if directory.exists():
            raise LabError(f"{directory} is there and is no lab; remove it, or choose another name")
        # What is left of a lab whose directory somebody deleted.
        remove_cgroup(cgroup_of(directory))
        # A directory is a lab by this file, so the two must appear together.
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=directory.parent))
        mine: Owner = {"pid": os.getpid(), "started": _started(os.getpid())}
        (making / OWNER).write_text(json.dumps(None if kept else mine))
        making.rename(directory)


def release(directory: Path) -> None:
    """End the lab in that directory, if there is one, whoever began it, dead or alive."""
    if directory.parent.exists():
        with _locked(directory.parent):
            end(directory)


def end(directory: Path) -> None:
    """Kill what runs in the lab's control group, and remove the group and the directory; the lock is held."""
    remove_cgroup(cgroup_of(directory))
    if (directory / OWNER).exists():
        _return_inotify(directory)
        shutil.rmtree(directory)


def remove_cgroup(cgroup: Path) -> None:
    """Kill what runs in a control group and below, and remove both; one that is not there needs neither.

    Raises:
        LabError: the kernel does not let go of it.
    """
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    events = cgroup / "cgroup.events"
    until(lambda: "populated 0" in events.read_text(), 20, f"processes in {cgroup} do not die; see ps")
    for path, _, _ in os.walk(cgroup, topdown=False):
        until(partial(_removed, path), 10, f"{path} stays busy")


def take_inotify(directory: Path, hosts: int) -> None:
    """Raise the machine's limit, which may be 128, by what that many systemds take."""
    share = hosts * INOTIFY_PER_SYSTEMD
    with _locked(directory.parent):
        INOTIFY_LIMIT.write_text(str(int(INOTIFY_LIMIT.read_text()) + share))
        (directory / "inotify.json").write_text(json.dumps({"share": share, "boot": _boot_id()}))


def until(condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    """Wait until the condition holds.

    Raises:
        LabError: with the complaint, when it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(complaint)
        time.sleep(0.01)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time begins or ends labs."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _owner(file: Path) -> Owner | None:
    """The process a lab belongs to; None when it was kept on purpose."""
    owner: Owner | None = json.loads(file.read_text())
    return owner


def _died(owner: Owner) -> bool:
    """Whether a process is gone; its number alone may have passed to another since."""
    return _started(owner["pid"]) != owner["started"]


def _started(pid: int) -> str:
    """When a process started, in ticks since this boot, with the boot's id; empty if there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        # The second field, the command's name, may hold blanks and brackets. Source: proc(5),
        # /proc/[pid]/stat
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] != "Z":
            return f"{_boot_id()} {fields[19]}"
    return ""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _return_inotify(directory: Path) -> None:
    with suppress(FileNotFoundError):
        taken = json.loads((directory / "inotify.json").read_text())
        if taken["boot"] == _boot_id():
            INOTIFY_LIMIT.write_text(str(int(INOTIFY_LIMIT.read_text()) - taken["share"]))


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.exists(path)
    return True
