# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc/PID/stat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.procfs.stat import Stat, parse_stat

SSHD = (
    b"812 (sshd) S 1 812 812 0 -1 4194560 1277 0 0 0 0 0 0 0 20 0 1 0 1043 15806464 1932 18446744073709551615"
)
KTHREADD = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 12 0 0 20 0 1 0 12 0 0 18446744073709551615"


def test_a_page_gives_its_fields() -> None:
    """A daemon of a real host."""
    assert parse_stat(SSHD) == Stat(
        pid=812, name=b"sshd", state="S", parent=1, flags=4194560, start_ticks=1043
    )


def test_a_kernel_thread_is_told_by_its_flag() -> None:
    """Its parent's number is no proof: in a container pid 2 may be anybody."""
    kernel, other = parse_stat(KTHREADD), parse_stat(SSHD)

    assert kernel is not None
    assert other is not None
    assert (kernel.is_kernel_thread, other.is_kernel_thread) == (True, False)


@pytest.mark.parametrize(
    ("state", "ended"), [("Z", True), ("X", True), ("S", False), ("R", False), ("D", False)]
)
def test_a_zombie_has_ended(state: str, ended: bool) -> None:
    """It still has a number and a name, and nothing else."""
    stat = parse_stat(SSHD.replace(b") S", b") " + state.encode()))

    assert stat is not None
    assert stat.has_ended is ended


@pytest.mark.parametrize("name", [b"a) R 7 (b", b"(sd-pam)", b"x\ny", b"", b") S 1", b"\xff\xfe"])
def test_a_name_may_pretend_to_be_the_rest_of_the_page(name: bytes) -> None:
    """Whoever owns a process chooses its name (prctl(2), PR_SET_NAME)."""
    stat = parse_stat(SSHD.replace(b"(sshd)", b"(" + name + b")"))

    assert stat is not None
    assert (stat.name, stat.state, stat.parent) == (name, "S", 1)


def test_a_page_that_is_cut_off_gives_none_or_the_same() -> None:
    """Never another process's truth."""
    whole = parse_stat(SSHD)

    for size in range(len(SSHD)):
        cut = parse_stat(SSHD[:size])
        assert cut is None or (cut.pid, cut.name, cut.state, cut.parent) == (812, b"sshd", "S", 1)
    assert whole is not None


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(page: bytes) -> None:
    """A fixture may be anything."""
    parse_stat(page)
    parse_stat(b"1 (a) " + page)


def test_this_process() -> None:
    """Against what the C library says."""
    stat = parse_stat(Path("/proc/self/stat").read_bytes())

    assert stat is not None
    assert (stat.pid, stat.parent, stat.is_kernel_thread) == (os.getpid(), os.getppid(), False)
