# SPDX-License-Identifier: Apache-2.0
"""Which addresses do hosts have, and how are their cables laid?

A lab's network is one bridge inside one network namespace, the hub's. Nothing of it is in the machine's own
network, so every lab uses the same addresses, and it has no way out.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import kernel
from tests.lab.errors import LabError

SUBNET = "10.213.0"
# The controller's address on the bridge: what runs there through Lab.ctl listens here and reaches every host.
HUB_ADDRESS = f"{SUBNET}.1"
# Hosts are numbered from .11, so that addresses below stay free for what a test puts on the bridge itself.
HOST_FIRST, HOST_LAST = 11, 250
HOSTS_MAX = HOST_LAST - HOST_FIRST + 1


@dataclass(frozen=True)
class Cable:
    """One host's end and the hub's end of a veth pair."""

    index: int

    @property
    def address(self) -> str:
        return f"{SUBNET}.{HOST_FIRST + self.index}"

    @property
    def mac(self) -> str:
        """The hardware address; it survives a reboot, or the others' ARP caches would be wrong."""
        return f"02:00:0a:d5:00:{self.index:02x}"

    @property
    def port(self) -> str:
        """The name of the hub's end."""
        return f"port{self.index}"


def ip_batch(lines: Sequence[str], prefix: Sequence[str] = ()) -> None:
    """Give `ip` many commands at once.

    Raises:
        LabError: with the sentence of the first command that the kernel refused.
    """
    done = subprocess.run(
        [*prefix, "ip", "-batch", "-"],
        input="\n".join(lines) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"the network cannot be laid: ip said: {done.stderr.strip() or done.stdout.strip()}")


def bridge_lines() -> list[str]:
    """What makes the hub's namespace a network."""
    return [
        "link set lo up",
        "link add br0 type bridge",
        f"address add {HUB_ADDRESS}/24 dev br0",
        "link set br0 up",
    ]


def plug_lines(cable: Cable, pid: int) -> list[str]:
    """What lays the cable between the hub and the network namespace of process `pid`."""
    return [
        f"link add {cable.port} type veth peer name eth0 address {cable.mac} netns {pid}",
        f"link set {cable.port} master br0 up",
    ]


def interface_lines(cable: Cable) -> list[str]:
    """What a host does with its end."""
    return [
        "link set lo up",
        f"address add {cable.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {HUB_ADDRESS}",
    ]


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """The calling thread, and threads it starts meanwhile, open their sockets where process `pid` is."""
    with open("/proc/thread-self/ns/net", "rb") as here, open(f"/proc/{pid}/ns/net", "rb") as there:
        kernel.setns(there.fileno(), kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(here.fileno(), kernel.CLONE_NEWNET)
