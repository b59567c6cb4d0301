# SPDX-License-Identifier: Apache-2.0
"""What is each attempt of `trials` needed for? What its failure stops or hides, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent import errors
from agent.diagnosis.trials import PROBE, Attempt

LOOKING = ("snapshot", "profile", "run")
WATCHING = ("monitor", "files", "libs", "profile")
COMMANDS = ("snapshot", "monitor", "files", "libs", "profile", "run")

# The probes that each command attaches; None: all there are. One that attaches some of its probes works.
_PROBES: dict[str, tuple[str, ...] | None] = {
    "monitor": None,
    "files": ("file_open",),
    "libs": ("lib_load",),
    "profile": None,
}
_WINDOW_PROBE = "file_open"
_EVENTS = {
    "file_open": "which process opens which key or certificate file is not seen",
    "lib_load": "which process loads which library is not seen",
    "process_exec": "which programs are started is not seen",
    "process_exit": "how processes end is not seen",
}


def _all(commands: Iterable[str], code: int) -> dict[str, int]:
    return dict.fromkeys(commands, code)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What one attempt is needed for."""

    name: str
    """What is missing where it fails, and no capability is."""
    means: str
    remedy: str
    stops: Mapping[str, int] = field(default_factory=dict)
    """Commands that end without it, and their exit codes."""
    hides: tuple[str, ...] = ()
    """Commands that see less without it."""
    capabilities: tuple[str, ...] = ()
    """With these it is not refused."""
    lacking_code: int | None = None
    """The exit code where a capability lacks, when it is another one."""


_NO_EVENTS = "no event can be seen"
_REFUSED = (
    "nothing to grant: the capability is there, and a security module (SELinux, AppArmor), another user"
    " namespace or the kernel's own policy refuses all the same"
)

CONDITIONS: dict[str, Condition] = {
    "switch": Condition(
        name="switched-off",
        means="the operator has switched the agent off on this host: nothing is looked at",
        stops=_all(COMMANDS, errors.EXIT_FAILURE),
        remedy="remove the file, when its reason is over",
    ),
    "configuration": Condition(
        name="configuration",
        means="what reads the configuration does not start",
        stops=_all(("monitor", "files", "run"), errors.EXIT_FAILURE),
        remedy="correct the file",
    ),
    "enrolment": Condition(
        name="enrolment",
        means="there is no collector to post to",
        stops=_all(("run",), errors.EXIT_FAILURE),
        remedy="sudo fleet-agent enroll --url https://HOST:8443 --pin sha256:... --token-file -",
    ),
    "state": Condition(
        name="state-directory",
        means="key, enrolment and spool cannot be used",
        stops=_all(("run",), errors.EXIT_FAILURE),
        remedy="run it as root, or as the user whose directory it is",
    ),
    "program": Condition(
        name="bpf",
        means=_NO_EVENTS,
        stops=_all(WATCHING, errors.EXIT_KERNEL),
        hides=("run",),
        capabilities=("CAP_BPF", "CAP_PERFMON"),
        lacking_code=errors.EXIT_PRIVILEGE,
        remedy="the capabilities are there, so a seccomp filter, lockdown or a user namespace refuses bpf(2):"
        " run it on the host itself, or allow bpf and perf_event_open in the container's seccomp profile",
    ),
    "btf": Condition(
        name="btf",
        means=f"{_NO_EVENTS}: the programs cannot be adjusted to this kernel",
        stops=_all(WATCHING, errors.EXIT_KERNEL),
        hides=("run",),
        remedy="boot a kernel that describes its types (CONFIG_DEBUG_INFO_BTF: Debian 11, RHEL 8.2, Ubuntu"
        " 20.10 and later); in a container, mount the host's /sys",
    ),
    "libbpf": Condition(
        name="libbpf",
        means=_NO_EVENTS,
        stops=_all(WATCHING, errors.EXIT_ATTACH),
        hides=("run",),
        remedy="install libbpf1 (Debian, Ubuntu) or libbpf (others), and the agent with its programs; the"
        " one-file program carries both (`fleet-agent selftest` tells what is missing)",
    ),
    "kernel_reader": Condition(
        name="lockdown",
        means=f"{_NO_EVENTS}: names and paths are read from the kernel's memory",
        stops=_all(WATCHING, errors.EXIT_KERNEL),
        hides=("run",),
        remedy="lockdown=confidentiality forbids it (kernel_lockdown(7)): boot with lockdown=integrity",
    ),
    "ring": Condition(
        name="ring-buffer",
        means=_NO_EVENTS,
        stops=_all(WATCHING, errors.EXIT_KERNEL),
        hides=("run",),
        remedy="boot Linux 5.8 or later; before 5.11 also: ulimit -l unlimited (LimitMEMLOCK=infinity)",
    ),
    "object": Condition(
        name="programs",
        means=_NO_EVENTS,
        stops=_all(WATCHING, errors.EXIT_KERNEL),
        hides=("run",),
        remedy="none but another kernel, 5.8 or later; please report it with the kernel's words",
    ),
    "sandbox": Condition(
        name="parser",
        means="what is in files is not read: that is done only in a process that may do nothing",
        hides=(*LOOKING, "files", "monitor"),
        remedy="look at the limits of processes and memory (ulimit -a; in a unit TasksMax, MemoryMax)",
    ),
    "listing": Condition(
        name="hidepid",
        means="processes of other users are not even listed",
        hides=LOOKING,
        capabilities=("CAP_SYS_PTRACE",),
        remedy="mount -o remount,hidepid=0 /proc",
    ),
    "maps": Condition(
        name="process-access",
        means="which libraries those processes use is not seen",
        hides=LOOKING,
        capabilities=("CAP_SYS_PTRACE",),
        remedy=_REFUSED,
    ),
    "executables": Condition(
        name="process-access",
        means="which programs those processes run is not seen, nor what is in files of their containers",
        hides=(*LOOKING, "monitor", "files", "libs"),
        capabilities=("CAP_SYS_PTRACE",),
        remedy=_REFUSED,
    ),
    "descriptors": Condition(
        name="descriptor-access",
        means="which key and certificate files those processes hold open is not seen",
        hides=LOOKING,
        capabilities=("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"),
        remedy=_REFUSED,
    ),
    "map_files": Condition(
        name="map-files",
        means="a library that was deleted or replaced while in use cannot be read: which it is stays unknown",
        hides=LOOKING,
        capabilities=("CAP_CHECKPOINT_RESTORE",),
        remedy="nothing to grant: this kernel has no /proc/PID/map_files, or refuses them to everybody",
    ),
    "places": Condition(
        name="file-access",
        means="what is in files and directories that are closed is not seen: certificates are missed, and"
        " of files that others open only the name tells the kind",
        hides=(*LOOKING, "monitor", "files", "libs"),
        capabilities=("CAP_DAC_READ_SEARCH",),
        remedy=_REFUSED,
    ),
    "network": Condition(
        name="network-file-systems",
        means="what lies there is not seen: a network file system is never touched",
        hides=("snapshot", "run"),
        remedy="none, on purpose: a dead server would hang the agent; run one on that server too",
    ),
    "names": Condition(
        name="not-all-tried",
        means="files beyond these were not asked about here; the scan itself goes further",
        hides=("snapshot", "run"),
        remedy="none needed; `fleet-agent snapshot` tells what it could not read",
    ),
    "cgroups": Condition(
        name="cgroup2",
        means="to which unit or container an event belongs is not told",
        hides=("monitor", "files", "libs", "run"),
        remedy="boot with systemd.unified_cgroup_hierarchy=1; without systemd: mount -t cgroup2 none PLACE",
    ),
}


def of(key: str, tried: Mapping[str, Attempt]) -> Condition | None:
    """The condition of an attempt; None where nothing depends on it."""
    return _of_probe(key.removeprefix(PROBE), tried) if key.startswith(PROBE) else CONDITIONS.get(key)


def _of_probe(name: str, tried: Mapping[str, Attempt]) -> Condition:
    """A probe that fails stops a command that has no other left; else only its own events are hidden."""
    every = {one.removeprefix(PROBE): attempt for one, attempt in tried.items() if one.startswith(PROBE)}
    stops: list[str] = []
    hides = ["run"] if name == _WINDOW_PROBE else []
    for command, wanted in _PROBES.items():
        own = [attempt for probe, attempt in every.items() if wanted is None or probe in wanted]
        if wanted is None or name in wanted:
            (stops if all(attempt.failure for attempt in own) else hides).append(command)
    return Condition(
        name=f"probe-{name.replace('_', '-')}",
        means=_EVENTS.get(name, f"{name} is not seen"),
        stops=_all(stops, errors.EXIT_KERNEL),
        hides=tuple(hides),
        remedy="none but another kernel: this one refuses the program, with the words above",
    )
