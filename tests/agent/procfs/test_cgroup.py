# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc/PID/cgroup, of both versions, of every runtime we know."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.cgroup import Placement, parse_cgroup, stable_name

ID = "0123456789abcdef" * 4
POD = "kubepods-burstable-pod3f2b6a0e_8d3c_4a52_9c7b_0d6f1a2b3c4d.slice"
USER = "user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main.service"),
        ("/system.slice/system-ssh.slice/ssh@7-10.0.0.1:22-10.0.0.9:51234.service", "ssh@.service"),
        ("/system.slice/ssh@12-[fe80::1]:22-[fe80::2]:40022.service", "ssh@.service"),
        (
            "/system.slice/system-systemd\\x2dcoredump.slice/systemd-coredump@3-812-0.service",
            "systemd-coredump@.service",
        ),
        ("/system.slice/x@0-1234_567890-1000.service", "x@.service"),
        ("/user.slice/user-1000.slice/session-12.scope", "session.scope"),
        ("/user.slice/user-0.slice/session-c3.scope", "session.scope"),
        (f"/{USER}/init.scope", "user@.service/init.scope"),
        (f"/{USER}/app.slice/dbus.service", "user@.service/dbus.service"),
        (f"/{USER}/app.slice/app-gnome-firefox-4711.scope", "user@.service/app-gnome-firefox.scope"),
        (
            f"/{USER}/app.slice/app-org.kde.konsole@9f86d081884c7d65.service",
            "user@.service/app-org.kde.konsole@.service",
        ),
        (
            f"/{USER}/app.slice/vte-spawn-3f2b6a0e-8d3c-4a52-9c7b-0d6f1a2b3c4d.scope",
            "user@.service/vte-spawn.scope",
        ),
        (f"/{USER}/dbus-:1.23-org.gnome.Shell@4.service", "user@.service/dbus-org.gnome.Shell@.service"),
        ("/system.slice/run-u42.service", "run.service"),
        ("/system.slice/run-r0123456789abcdef0123456789abcdef.scope", "run.scope"),
        ("/machine.slice/machine-qemu\\x2d3\\x2dweb.scope", "machine-qemu\\x2dweb.scope"),
        ("/system.slice/foo.service/payload", "foo.service"),
        ("/init.scope", "init.scope"),
        ("/system.slice/old.service (deleted)", "old.service"),
        ("/", None),
        ("/user.slice", None),
        ("/../../other", None),
        ("/.service", None),
    ],
)
@pytest.mark.parametrize("line", ["0::{}\n", "1:name=systemd:{}\n", "4:memory:/x\n1:name=systemd:{}\n0::/\n"])
def test_the_unit_is_named_without_what_changes(path: str, unit: str | None, line: str) -> None:
    """A key that changed with every login would be a change in every report."""
    assert parse_cgroup(line.format(path).encode()) == Placement(unit=unit)


@pytest.mark.parametrize(
    ("path", "container", "unit"),
    [
        (f"/system.slice/docker-{ID}.scope", "docker", None),
        (f"/docker/{ID}", "docker", None),
        (f"/system.slice/docker.service/docker/{ID}", "docker", None),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman", None),
        (f"/{USER}/user.slice/libpod-{ID}.scope", "podman", None),
        (f"/kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-{ID}.scope", "kubernetes", None),
        (f"/kubepods/besteffort/pod3f2b6a0e-8d3c-4a52-9c7b-0d6f1a2b3c4d/{ID}", "kubernetes", None),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd", None),
        (f"/machine.slice/crio-{ID}.scope", "cri-o", None),
        (f"/default/{ID}", "containerd", None),
        (f"/k8s.io/{ID}", "containerd", None),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{POD}/cri-containerd-{ID}.scope",
            "kubernetes",
            None,
        ),
        (f"/system.slice/web.service/libpod-payload-{ID}", "podman", None),
        ("/machine.slice/machine-trixie.scope/payload/init.scope", "systemd-nspawn", "init.scope"),
        # What watches over a container runs on the host.
        (f"/kubepods.slice/{POD}/crio-conmon-{ID}.scope", None, "crio-conmon.scope"),
        ("/machine.slice/systemd-nspawn@trixie.service/supervisor", None, "systemd-nspawn@trixie.service"),
        ("/lxc.payload.web/system.slice/nginx.service", "lxc", "nginx.service"),
        ("/lxc/web/init.scope", "lxc", "init.scope"),
        (
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
            "systemd-nspawn",
            "nginx.service",
        ),
        # The runtime's own watcher stands outside, on the host.
        (f"/machine.slice/libpod-conmon-{ID}.scope", None, "libpod-conmon.scope"),
        ("/lxc.monitor.web", None, None),
        ("/system.slice/docker.service", None, "docker.service"),
    ],
)
def test_a_container_is_its_runtime_without_its_id(
    path: str, container: str | None, unit: str | None
) -> None:
    """An id is another one after each start; images come with a later question."""
    assert parse_cgroup(f"0::{path}\n".encode()) == Placement(unit=unit, container=container)


def test_a_container_shows_in_any_hierarchy() -> None:
    """Docker on a host without systemd puts it below each controller."""
    page = f"5:memory:/docker/{ID}\n4:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/\n".encode()

    assert parse_cgroup(page) == Placement(container="docker")


@pytest.mark.parametrize(
    ("placement", "label"),
    [
        (Placement(), "-"),
        (Placement(unit="nginx.service"), "nginx.service"),
        (Placement(container="docker"), "docker"),
        (Placement(unit="nginx.service", container="lxc"), "lxc/nginx.service"),
    ],
)
def test_the_label_is_one_word(placement: Placement, label: str) -> None:
    """It stands between two spaces of a key."""
    assert placement.label == label


def test_names_keep_their_bytes() -> None:
    """Anybody with a delegated cgroup names what is below it."""
    placement = parse_cgroup(b"0::/a.slice/\xff:x.service\n")

    assert placement.unit == "\udcff:x.service"


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(page: bytes) -> None:
    """A fixture may be anything."""
    parse_cgroup(page)
    parse_cgroup(b"0::/" + page)


@given(st.text(max_size=60))
def test_a_stable_name_is_stable(name: str) -> None:
    """Taking away what changes a second time takes away nothing more, whatever the name."""
    once = stable_name(f"{name}.service")

    assert stable_name(once) == once


def test_this_process() -> None:
    """The page of the kernel that runs is one we read."""
    page = Path("/proc/self/cgroup").read_bytes()

    assert " " not in parse_cgroup(page).label
