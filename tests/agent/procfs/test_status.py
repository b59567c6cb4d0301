# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc/PID/status."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.status import CAP_SYS_PTRACE, Status, parse_status

PAGE = b"""\
Name:\tfleet-agent
Umask:\t0022
State:\tS (sleeping)
Tgid:\t812
Uid:\t1000\t0\t0\t0
Gid:\t1000\t7\t7\t7
NSpid:\t812
CapInh:\t0000000000000000
CapPrm:\t000001ffffffffff
CapEff:\t0000000000080004
CapBnd:\t000001ffffffffff
"""


def test_a_page_gives_the_effective_ones() -> None:
    """Of four user ids the second counts."""
    assert parse_status(PAGE) == Status(uid=0, gid=7, capabilities=0x80004)


@pytest.mark.parametrize(("capability", "has"), [(CAP_SYS_PTRACE, True), (2, True), (0, False), (21, False)])
def test_a_capability_is_a_bit_of_the_effective_set(capability: int, has: bool) -> None:
    """0x80004: bits 2 and 19."""
    status = parse_status(PAGE)

    assert status is not None
    assert status.may(capability) is has


@pytest.mark.parametrize("missing", [b"Uid:", b"Gid:", b"CapEff:"])
def test_a_page_without_a_field_gives_none(missing: bytes) -> None:
    """Half a page must not pass for one without capabilities."""
    assert parse_status(PAGE.replace(missing, b"Other:")) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(page: bytes) -> None:
    """A fixture may be anything."""
    parse_status(page)
    parse_status(PAGE + page)


def test_this_process() -> None:
    """Against what the C library says."""
    status = parse_status(Path("/proc/self/status").read_bytes())

    assert status is not None
    assert (status.uid, status.gid) == (os.geteuid(), os.getegid())
