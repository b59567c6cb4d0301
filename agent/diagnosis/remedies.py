# SPDX-License-Identifier: Apache-2.0
"""How is a capability given to this process? By commands and unit lines that fit where it stands.

Never by setcap(8). A program that gains capabilities by its file is not dumpable, so that the one file, whose
second process asks /proc for the executable of the first, does not start unless CAP_SYS_PTRACE is among them;
and it drops LD_LIBRARY_PATH, by which the one file finds its own libraries, so that it uses the host's.
Besides, every user could run it. Ambient capabilities (capabilities(7)) have none of this.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from agent.procfs.status import Privileges

PROGRAM = "fleet-agent"
UNIT = "fleet-agent.service"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process stands."""

    uid: int
    user: str
    """Login name, or uid:N."""
    unit: str | None
    container: str | None


def grant(capability: str, held: Privileges, place: Place) -> list[str]:
    """How to give it one capability, the shortest way first."""
    if not held.could(capability):
        return [_widen(capability, place)]
    if place.uid == 0:
        return [f"{capability} was dropped by who started this: start it from root's own shell"]
    ways = []
    if held.no_new_privs:
        ways.append("sudo gives nothing here (no_new_privs is set): start it from another shell")
    else:
        ways.append(f"run it as root: sudo {PROGRAM} ...")
    ways.append(f"in its unit (systemctl edit {place.unit or UNIT}): AmbientCapabilities={capability}")
    return ways


def _widen(capability: str, place: Place) -> str:
    """Where the bounding set lacks it, nothing that is started from here can have it."""
    short = capability.removeprefix("CAP_")
    if place.container:
        return f"give it to the container ({place.container}): --cap-add={short}, capabilities.add"
    if place.unit and place.unit.endswith(".service"):
        return f"in its unit (systemctl edit {place.unit}): CapabilityBoundingSet={capability}"
    return (
        f"nothing started from here can have it (it is not in the bounding set): in a container give"
        f" --cap-add={short}, in a unit CapabilityBoundingSet={capability}, else start it from another shell"
    )


def all_at_once(capabilities: list[str], held: Privileges, place: Place) -> list[str]:
    """What gives a user who is not root all of them, for one run; and what does not."""
    if not capabilities or place.uid == 0 or not all(map(held.could, capabilities)):
        return []
    words = " ".join(capabilities)
    user = str(place.uid) if place.user.startswith("uid:") else shlex.quote(place.user)
    once = (
        f"sudo systemd-run --quiet --pipe --wait --uid={user} --property=AmbientCapabilities='{words}'"
        f" {PROGRAM} ..."
    )
    return [
        f"all of these for one run, and no root: {once}",
        f"not by setcap: {PROGRAM} unpacks itself, and would not start, or use libraries not its own",
    ]
