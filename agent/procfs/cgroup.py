# SPDX-License-Identifier: Apache-2.0
"""To which service or container does a process belong? One /proc/PID/cgroup page: bytes in, a record out.

Names are freed of every number that changes from boot to boot or from one start to the next, so that the same
service has the same name tomorrow and on the next host: session-12.scope is `session.scope`, and a container
is its runtime, not its id.

Sources: cgroups(7), systemd.unit(5), systemd.scope(5), systemd.socket(5) (instance names of accepted
connections), the XDG naming of desktop units (systemd's DESKTOP_ENVIRONMENTS), and the cgroup names that each
runtime documents.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Where the process belongs. Names keep the page's bytes (surrogate escapes)."""

    unit: str | None = None
    """systemd unit; `user@.service/UNIT` for a unit of a user's own manager."""
    container: str | None = None
    """Runtime: docker, podman, kubernetes, containerd, cri-o, lxc, systemd-nspawn; or other-root, where no
    cgroup names one and the process's root directory is not the host's (`agent.survey.census`)."""

    @property
    def label(self) -> str:
        """Both in one word; `-` where there is neither."""
        return "/".join(part for part in (self.container, self.unit) if part) or "-"


_ID = "[0-9a-f]{64}"
# A whole component of the path, and whose container it marks. The outermost that is one counts: inside
# Kubernetes' folders the runtimes use their own names again.
_CONTAINERS = tuple(
    (re.compile(pattern), runtime)
    for pattern, runtime in (
        (r"(?:kubelet-)?kubepods(?:[-.].*)?", "kubernetes"),
        (rf"docker-{_ID}\.scope", "docker"),
        # The second where systemd started it (`--cgroups=split`, as Quadlet's services do).
        (rf"libpod-(?:payload-)?{_ID}(?:\.scope)?", "podman"),
        (rf"(?:cri-containerd|nerdctl)-{_ID}\.scope", "containerd"),
        (rf"crio-{_ID}(?:\.scope)?", "cri-o"),
        (r"lxc\.payload(?:\..+)?", "lxc"),
        (r"systemd-nspawn@.*\.service", "systemd-nspawn"),
    )
)
# Two components: a runtime's folder and an id or name in it. containerd's folders are its namespaces
# (containerd's docs/namespaces.md): ctr's and nerdctl's own, and the one of Kubernetes.
_FOLDERS = {
    "docker": ("docker", re.compile(_ID)),
    "lxc": ("lxc", re.compile(r".+", re.DOTALL)),
    "default": ("containerd", re.compile(_ID)),
    "k8s.io": ("containerd", re.compile(_ID)),
}
# What a runtime puts beside a container, and runs on the host itself: the process that watches over it
# (conmon(8); `supervisor` of systemd-nspawn(1)).
_WATCHER = re.compile(rf"(?:crio|libpod)-conmon-{_ID}(?:\.scope)?")
_WATCHER_BELOW = re.compile(r"(?:systemd-nspawn@.*\.service|machine-.*\.scope)/supervisor", re.DOTALL)
# A machine that systemd-nspawn was told to start by hand; a virtual machine's scope has no payload.
_PAYLOAD = re.compile(r"machine-.*\.scope/payload", re.DOTALL)

_UNIT = re.compile(r".+\.(?:service|scope)", re.DOTALL)
# What one accepted connection is called (systemd.socket(5), Accept=): a counter and the two addresses, or the
# peer's process and user.
_CONNECTION = re.compile(r"@[0-9]+-(?:.*:.*|[0-9]+(?:_[0-9]+)?-[0-9]+)\.service$", re.DOTALL)
_TRANSIENT = re.compile(r"(run)-(?:[ur]?[0-9a-f]+|p[0-9]+-i[0-9]+)(\.(?:service|scope))")
_DBUS = re.compile(r"dbus-:[0-9]+\.[0-9]+-(.*)@[0-9]+\.service", re.DOTALL)
_DESKTOP = re.compile(r"(app-.*)@[0-9a-f]{8,}\.service", re.DOTALL)
_USER_MANAGER = re.compile(r"user@[0-9]+\.service")
_USER_RUNTIME = re.compile(r"(user-runtime-dir)@[0-9]+\.service")
_FORMS = ((_DBUS, r"dbus-\1@.service"), (_DESKTOP, r"\1@.service"), (_USER_RUNTIME, r"\1@.service"))
# Scopes are made by programs for what they started, and named with its number or a random one.
_SCOPE_NUMBER = re.compile(
    r"(?:-|\\x2d)(?:c?[0-9]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{12,})"
    r"(?=-|\\x2d|\.)"
)


def parse_cgroup(page: bytes) -> Placement:
    """The placement that a page tells; an empty one where it tells none.

    Args:
        page: the whole page, `HIERARCHY:CONTROLLERS:PATH` lines; systemd's own hierarchy (v1) counts before
            the unified one (v2) where both are there, and any other only for containers.
    """
    paths: dict[str, str] = {}
    for line in page.decode("utf-8", "surrogateescape").split("\n"):
        controllers, colon, path = line.partition(":")[2].partition(":")
        if colon:
            paths[controllers] = path.removesuffix(" (deleted)")
    unit = container = None
    split = {controllers: path.split("/") for controllers, path in paths.items()}
    is_watcher = any(map(_is_watcher, split.values()))
    for controllers in ("name=systemd", ""):
        unit = unit or _unit(split.get(controllers, []), is_watcher=is_watcher)
    for components in split.values():
        container = container or (None if is_watcher else _container(components))
    return Placement(unit, container)


def _is_watcher(components: list[str]) -> bool:
    pairs = (f"{outer}/{inner}" for outer, inner in itertools.pairwise(components))
    return any(map(_WATCHER.fullmatch, components)) or any(map(_WATCHER_BELOW.fullmatch, pairs))


def _container(components: list[str]) -> str | None:
    for component in components:
        for pattern, runtime in _CONTAINERS:
            if pattern.fullmatch(component):
                return runtime
    for folder, name in itertools.pairwise(components):
        if folder in _FOLDERS and _FOLDERS[folder][1].fullmatch(name):
            return _FOLDERS[folder][0]
        if _PAYLOAD.fullmatch(f"{folder}/{name}"):
            return "systemd-nspawn"
    return None


def _unit(components: list[str], *, is_watcher: bool) -> str | None:
    """The innermost unit, down to the container: what lies outside of that is no unit of the process's."""
    for at in range(len(components) - 1, -1, -1):
        around = (components[at : at + 1], components[max(0, at - 1) : at + 1])
        if not is_watcher and any(map(_container, around)):
            return None
        if _UNIT.fullmatch(components[at]):
            name = stable_name(components[at])
            of_user = any(_USER_MANAGER.fullmatch(outer) for outer in components[:at])
            return f"user@.service/{name}" if of_user else name
    return None


def stable_name(unit: str) -> str:
    """A unit's name without what changes from one start to the next."""
    if match := _TRANSIENT.fullmatch(unit):
        return match[1] + match[2]
    if unit.endswith(".scope"):
        return _SCOPE_NUMBER.sub("", unit)
    if _USER_MANAGER.fullmatch(unit):
        return "user@.service"
    for pattern, form in _FORMS:
        if pattern.fullmatch(unit):
            return pattern.sub(form, unit)
    return _CONNECTION.sub("@.service", unit)
