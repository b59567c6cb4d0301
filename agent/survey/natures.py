# SPDX-License-Identifier: Apache-2.0
"""Does a file that a process has mapped or open lie on this machine? Mount tables tell, untouched.

A process in another mount namespace has its own table, which is read when its file lies on what ours does not
list.
"""

from __future__ import annotations

from agent.host import Host
from agent.procfs.mountinfo import Mount, Nature, parse_mountinfo


def of_unlisted(device: tuple[int, int]) -> Nature:
    """Of a device that is in no table: its mount was taken away while in use, or is another namespace's.

    Devices with a major number are disks; network file systems have none.
    """
    return "local" if device[0] else "foreign"


class Natures:
    """What mount tables have said so far, in one scan."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._devices: dict[tuple[int, int], Nature] = {}
        self._mounts: dict[int, Nature] = {}
        self._read: set[str] = set()

    def of_device(self, pid: int, device: tuple[int, int]) -> Nature | None:
        """Of the file system on a device; None where neither our table nor the process's lists it.

        Args:
            pid: who has the file.
            device: major and minor number, as the kernel writes them in /proc/PID/maps.

        Raises:
            HostError: a table cannot be read.
        """
        self._learn("self")
        if device not in self._devices:
            self._learn(str(pid))
        return self._devices.get(device)

    def of_mount(self, pid: int, number: int) -> Nature | None:
        """Of the file system of a mount, by its number; None and errors as above."""
        self._learn("self")
        if number not in self._mounts:
            self._learn(str(pid))
        return self._mounts.get(number)

    def _learn(self, whose: str) -> None:
        # Once for each process: one with files on mounts that no table lists must not have its own read for
        # each of them.
        if whose in self._read:
            return
        self._read.add(whose)
        for mount in parse_mountinfo(self._host.read(f"/proc/{whose}/mountinfo")):
            self._note(mount)

    def _note(self, mount: Mount) -> None:
        self._devices[mount.device] = mount.nature
        self._mounts[mount.number] = mount.nature
