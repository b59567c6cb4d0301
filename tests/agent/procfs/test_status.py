# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc/PID/status."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.status import CAPABILITIES, Privileges, parse_privileges, parse_users

PAGE = b"""\
Name:\tfleet-agent
Umask:\t0022
State:\tS (sleeping)
Tgid:\t812
Uid:\t1000\t0\t0\t0
Gid:\t1000\t7\t7\t7
Groups:\t27 100
NSpid:\t812
CapInh:\t0000000000000000
CapPrm:\t000001ffffffffff
CapEff:\t0000000000080004
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
NoNewPrivs:\t0
Seccomp:\t0
Seccomp_filters:\t0
"""


@pytest.mark.parametrize(
    ("capability", "has"),
    [
        ("CAP_SYS_PTRACE", True),
        ("CAP_DAC_READ_SEARCH", True),
        ("CAP_DAC_OVERRIDE", False),
        ("CAP_BPF", False),
    ],
)
def test_a_capability_is_a_bit_of_the_effective_set(capability: str, has: bool) -> None:
    """0x80004: bits 2 and 19."""
    found = parse_privileges(PAGE)

    assert found is not None
    assert found.may(capability) is has


@pytest.mark.parametrize("missing", [b"CapEff:", b"CapBnd:"])
def test_a_page_without_a_field_gives_none(missing: bytes) -> None:
    """Half a page must not pass for one without capabilities."""
    assert parse_privileges(PAGE.replace(missing, b"Other:")) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(page: bytes) -> None:
    """A fixture may be anything."""
    parse_privileges(page)
    parse_privileges(PAGE + page)


def test_this_process() -> None:
    """Against what the C library says."""
    found = parse_privileges(Path("/proc/self/status").read_bytes())

    assert found is not None
    assert found.groups == {os.getegid(), *os.getgroups()}


def test_a_page_tells_what_could_be_given_too() -> None:
    """What the bounding set lacks no unit and no sudo gives."""
    page = PAGE.replace(b"CapBnd:\t000001ff", b"CapBnd:\t00000000").replace(b"CapAmb:\t00", b"CapAmb:\t04")
    page = page.replace(b"NoNewPrivs:\t0", b"NoNewPrivs:\t1").replace(b"Seccomp:\t0", b"Seccomp:\t2")

    found = parse_privileges(page)

    assert found == Privileges(
        0x80004, 0xFFFFFFFF, 0x04 << 56, no_new_privs=True, is_filtered=True, groups=frozenset((7, 27, 100))
    )
    assert found.may("CAP_SYS_PTRACE")
    assert not found.may("CAP_BPF")
    assert found.could("CAP_SYS_PTRACE")
    assert not found.could("CAP_BPF")


def test_an_old_kernel_s_page_is_read_too() -> None:
    """CapAmb came with Linux 4.3, NoNewPrivs with 4.10."""
    old = b"".join(
        line for line in PAGE.splitlines(keepends=True) if not line.startswith((b"CapAmb", b"NoNew"))
    )

    assert parse_privileges(old) == parse_privileges(PAGE)


def test_the_numbers_are_those_of_the_kernel_s_headers() -> None:
    """Against the C library's own copy of include/uapi/linux/capability.h."""
    header = Path("/usr/include/linux/capability.h")
    if not header.is_file():
        pytest.skip(f"{header} is not installed")

    defined = dict(re.findall(r"^#define (CAP_[A-Z_]+)\s+([0-9]+)$", header.read_text(), re.MULTILINE))

    assert {name: int(defined[name]) for name in CAPABILITIES} == CAPABILITIES


def test_a_process_is_all_its_four_users() -> None:
    """A set-user-id program is its starter's, too; a page without the line is nobody's."""
    assert parse_users(b"Name:\tsudo\nUid:\t1000\t0\t0\t0\nGid:\t1000\t0\t0\t0\n") == {0, 1000}
    assert parse_users(Path("/proc/self/status").read_bytes()) == {*os.getresuid()}
    assert parse_users(b"Name:\tUid: 0 0 0 0\nGid:\t0\t0\t0\t0\n") == set()
