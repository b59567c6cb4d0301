# SPDX-License-Identifier: Apache-2.0
"""A directory that looks like a host: files, users, and processes with what they have mapped and open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agent.host import Host
from tests.agent.elf_files import elf_file

LIBCRYPTO = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"
LIBSSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3"
START = 0x7F0000000000

FILES = {
    "/etc/hostname": b"web1\n",
    "/etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "/etc/os-release": b'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n',
    "/etc/passwd": (
        b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n"
        b"alice:x:1000:1000::/home/alice:/bin/sh\n"
    ),
    "/etc/group": b"root:x:0:\nwww-data:x:33:\nalice:x:1000:\n",
    "/proc/sys/kernel/hostname": b"web1\n",
    "/proc/sys/kernel/osrelease": b"6.1.0-28-amd64\n",
    "/proc/self/mountinfo": b"22 1 254:0 / / rw - ext4 /dev/vda1 rw\n",
    LIBCRYPTO: elf_file("libcrypto.so.3", constants=b"\0OpenSSL 3.0.15 3 Sep 2024\0"),
    LIBSSL: elf_file("libssl.so.3"),
    "/var/lib/dpkg/info/libssl3.list": f"{LIBCRYPTO}\n{LIBSSL}\n".encode(),
    "/var/lib/dpkg/status": b"Package: libssl3\nStatus: install ok installed\nVersion: 3.0.15-1\n",
}


class FakeHost:
    """One such directory."""

    def __init__(self, root: Path) -> None:
        """Make a host on which nothing runs and no certificate is."""
        self.root = root
        for path, data in FILES.items():
            self.file(path, data)

    @property
    def host(self) -> Host:
        """As the agent sees it."""
        return Host(str(self.root))

    def place(self, path: str | bytes) -> bytes:
        """Where a path of the host stands on this machine, with the directories on the way to it."""
        place = os.path.join(os.fsencode(self.root), os.fsencode(path).lstrip(b"/"))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return place

    def file(self, path: str | bytes, data: bytes, mode: int = 0o644) -> None:
        """Write a file."""
        place = self.place(path)
        with open(place, "wb") as file:
            file.write(data)
        os.chmod(place, mode)

    def link(self, path: str | bytes, target: str | bytes) -> None:
        """Make a symbolic link."""
        os.symlink(os.fsencode(target), self.place(path))

    def process(
        self,
        pid: int,
        name: bytes = b"nginx",
        *,
        exe: str | bytes = "/usr/sbin/nginx",
        libraries: Sequence[str | bytes] = (LIBCRYPTO, LIBSSL),
        fds: Sequence[str | bytes] = (),
        uid: int = 33,
        cgroup: bytes = b"0::/system.slice/nginx.service\n",
    ) -> None:
        """A process.

        Args:
            libraries: paths as its maps page has them; they must be there.
            fds: where its descriptors lead, from number 3 on.
        """
        page = b""
        for number, library in enumerate(libraries):
            start = START + number * 0x10000
            inode = os.stat(self.place(library)).st_ino
            page += b"%x-%x r-xp 00000000 fe:00 %d     %s\n" % (
                start,
                start + 0x1000,
                inode,
                os.fsencode(library),
            )
        capabilities = b"CapInh:\t0000000000000000\nCapEff:\t0000000000000000\n"
        for entry, data in {
            "stat": b"%d (%s) S 1 1 1 0 -1 4194560 0 0\n" % (pid, name),
            "status": b"Name:\t%s\nUid:\t%d\t%d\t%d\t%d\nGid:\t33\t33\t33\t33\n%s"
            % (name.replace(b"\n", b"\\n"), uid, uid, uid, uid, capabilities),
            "cgroup": cgroup,
            "maps": page,
        }.items():
            self.file(f"/proc/{pid}/{entry}", data)
        self.link(f"/proc/{pid}/exe", exe)
        self.link(f"/proc/{pid}/root", "/")
        for number, target in enumerate(fds, 3):
            self.link(f"/proc/{pid}/fd/{number}", target)
