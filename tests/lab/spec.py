# SPDX-License-Identifier: Apache-2.0
"""What makes one host different from the others, and how is it told to the process that boots hosts?"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tests.lab.errors import LabError
from tests.lab.network import Cable

# A host name is also the name of a control group and of a directory.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
# Control groups of the lab itself, and the controller's name in every /etc/hosts.
RESERVED = frozenset({"hub", "ctl", "controller", "localhost"})

# What a unit may be called. Source: systemd.unit(5), Description
UNIT = re.compile(
    r"[A-Za-z0-9:_.\\@-]+\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)"
)

# What is made anew at every boot; a file put there before would never be seen.
MOUNTED = frozenset({"dev", "proc", "run", "sys"})


class File(NamedTuple):
    """A file's content and its permission bits."""

    content: str | bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Spec:
    """One host, as a test asks for it.

    Attributes:
        name: its host name; letters, digits and hyphens.
        files: absolute path -> text, bytes or `File`; there before the host boots, owned by root.
        units: unit name -> text of a unit file of its own, enabled and started (init "systemd" only). A
        template is not
            started, nor is a service that a timer, socket or path unit of the same name starts.
        start: units the base's packages brought, enabled and started too (init "systemd" only).
        host_keys: algorithms with an optional size, "rsa:3072", "ecdsa:384".
        sshd_config: lines that go before the distribution's own, so that they win.
    """

    name: str
    files: Mapping[str, str | bytes | File] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ("ed25519",)
    sshd_config: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise LabError(
                f"{self.name!r} cannot name a host: use letters, digits and hyphens, not {sorted(RESERVED)}"
            )
        for path in self.files:
            if not path.startswith("/") or path.split("/")[1] in MOUNTED:
                raise LabError(
                    f"{self.name}: the file {path!r} needs an absolute path outside {sorted(MOUNTED)}"
                )
        for name in (*self.units, *self.start):
            if not UNIT.fullmatch(name):
                raise LabError(f"{self.name}: {name!r} cannot name a unit; see systemd.unit(5)")


@dataclass(frozen=True)
class Plan:
    """One host, as the booting process is told; `files` is path -> (base64 of the content, mode)."""

    name: str
    index: int
    cgroup: str
    machine_id: str
    files: Mapping[str, tuple[str, int]]
    units: Mapping[str, str]
    start: tuple[str, ...]
    host_keys: tuple[str, ...]
    sshd_config: str

    @classmethod
    def of(cls, spec: Spec, index: int, cgroup: str, machine_id: str) -> Plan:
        """The plan for one Spec."""
        files = {path: _encoded(content) for path, content in spec.files.items()}
        return cls(
            name=spec.name,
            index=index,
            cgroup=cgroup,
            machine_id=machine_id,
            files=files,
            units=dict(spec.units),
            start=spec.start,
            host_keys=spec.host_keys,
            sshd_config=spec.sshd_config,
        )

    @property
    def cable(self) -> Cable:
        return Cable(self.index)


@dataclass(frozen=True)
class Job:
    """Everything the booting process needs: which lab, on what base, which hosts.

    Attributes:
        directory: the lab's run directory.
        checkout: the directory hosts must not see because the product under test is developed there.
        names: name -> address of every host of the lab, also of those not booted now.
    """

    directory: str
    checkout: str
    init: str
    base: str
    disk: str
    timeout_s: float
    names: Mapping[str, str]
    hosts: tuple[Plan, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote; both ends are the same version of this file."""
        fields: dict[str, Any] = json.loads(text)
        hosts = []
        for plan in fields.pop("hosts"):
            files = {path: (content, mode) for path, (content, mode) in plan.pop("files").items()}
            # JSON knows no tuples.
            start, host_keys = (tuple(plan.pop(name)) for name in ("start", "host_keys"))
            hosts.append(Plan(**plan, files=files, start=start, host_keys=host_keys))
        return cls(**fields, hosts=tuple(hosts))


def _encoded(content: str | bytes | File) -> tuple[str, int]:
    file = content if isinstance(content, File) else File(content)
    raw = file.content.encode() if isinstance(file.content, str) else file.content
    return base64.b64encode(raw).decode(), file.mode
