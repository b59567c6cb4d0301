# SPDX-License-Identifier: Apache-2.0
"""Is what is missing on a host named, with what to do? On hosts that are directories."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent import errors
from agent.host import Host
from agent.kernel import preflight
from agent.kernel.libbpf import BpfError

S = 1_000_000_000


def host(root: Path, *, capabilities: int | None = None, timens: str | None = None) -> Host:
    """A host with the pages that matter here."""
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    if capabilities is not None:
        page = f"Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{capabilities:016x}\nCapBnd:\tf\n"
        (proc / "status").write_text(page)
    if timens is not None:
        (proc / "timens_offsets").write_text(timens)
    return Host(str(root))


@pytest.mark.parametrize("capabilities", [1 << 21, 1 << 39 | 1 << 38, (1 << 41) - 1])
def test_the_capabilities_of_root_or_of_the_service_are_enough(capabilities: int, tmp_path: Path) -> None:
    """CAP_SYS_ADMIN alone, the two newer ones, or all."""
    preflight.require_privilege(host(tmp_path, capabilities=capabilities))


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [(0, "CAP_BPF and CAP_PERFMON"), (1 << 39, "lacks CAP_PERFMON;"), (1 << 38, "lacks CAP_BPF;")],
)
def test_missing_capabilities_are_named(capabilities: int, missing: str, tmp_path: Path) -> None:
    """And only those that are missing."""
    with pytest.raises(errors.PrivilegeError, match="EPERM") as caught:
        preflight.require_privilege(host(tmp_path, capabilities=capabilities))
    assert missing in str(caught.value)
    assert caught.value.exit_code == errors.EXIT_PRIVILEGE


def test_a_kernel_without_btf_is_told_apart_from_missing_privilege(tmp_path: Path) -> None:
    """No capability helps there."""
    # Given a host without and one with the page
    bare = host(tmp_path / "bare")
    btf = tmp_path / "new/sys/kernel/btf/vmlinux"
    btf.parent.mkdir(parents=True)
    btf.touch()
    # When each is asked
    # Then the one is refused as a kernel that cannot, and the other is not
    with pytest.raises(errors.KernelError, match="CONFIG_DEBUG_INFO_BTF"):
        preflight.require_kernel(bare)
    preflight.require_kernel(host(tmp_path / "new"))


def test_a_refusal_in_spite_of_all_capabilities_says_what_may_be_behind_it() -> None:
    """The kernel's own log is empty then."""
    assert "lockdown" in preflight.load_reason(BpfError("load", "x", None, errno.EPERM, ""))
    assert "lockdown" not in preflight.load_reason(BpfError("load", "x", None, errno.EACCES, ""))


@pytest.mark.parametrize(
    ("page", "monotonic_ns", "boottime_ns"),
    [
        (None, 0, 0),
        ("monotonic           0         0\nboottime            0         0\n", 0, 0),
        (
            "monotonic      500000       250\nboottime            7         0\n",
            500_000_000_000_250,
            7_000_000_000,
        ),
        (
            "monotonic     -500000         0\nboottime            7         1\n",
            -500_000_000_000_000,
            7_000_000_001,
        ),
    ],
)
def test_the_offset_of_a_time_namespace_is_read(
    page: str | None, monotonic_ns: int, boottime_ns: int, tmp_path: Path
) -> None:
    """Kernels before 5.6 have no such page, and no such namespaces."""
    here = host(tmp_path, timens=page)
    assert preflight.own_clock_offset_ns(here, "monotonic") == monotonic_ns
    assert preflight.own_clock_offset_ns(here, "boottime") == boottime_ns
