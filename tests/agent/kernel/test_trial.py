# SPDX-License-Identifier: Apache-2.0
"""The smallest programs that tell whether this kernel takes ours, against what it really does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from agent.kernel import trial
from tests.agent.cli.commands import AS_NOBODY, ENVIRONMENT, may_be_nobody

TRY = """
from agent.kernel import trial
for answer in (trial.load_program(), trial.load_kernel_reader(), trial.create_ring(4096)):
    print(answer or "yes")
"""


def answers(*prefix: str) -> list[str]:
    """What a process of its own is told."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", TRY], check=False, capture_output=True, text=True, env=ENVIRONMENT
    )
    if not done.stdout:
        pytest.skip(f"it cannot be asked: {done.stderr.strip()[-200:]}")
    return done.stdout.splitlines()


@pytest.mark.root
@pytest.mark.kernel
def test_root_may_load_what_this_kernel_takes() -> None:
    """Where bpftool may load a program and make a ring, so may we."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed")
    probed = subprocess.run(
        ["bpftool", "feature", "probe", "kernel"], check=False, capture_output=True, text=True
    )
    if "program_type tracepoint is available" not in probed.stdout:
        pytest.skip("bpftool may not load tracepoint programs here")

    assert answers() == ["yes", "yes", "yes"]


def test_nobody_may_not() -> None:
    """And is told by the kernel, not by a list of capabilities."""
    may_be_nobody()

    assert answers(*AS_NOBODY)[:2] == ["EPERM, operation not permitted"] * 2


@pytest.mark.root
def test_root_of_a_user_namespace_may_not() -> None:
    """It has every capability, and none that counts here: why names are not trusted."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")

    assert answers("unshare", "--user", "--map-root-user")[:2] == ["EPERM, operation not permitted"] * 2


@pytest.mark.root
def test_the_kernel_reads_our_programs_as_we_mean_them() -> None:
    """A program that is refused whatever one may do says nothing about privileges."""
    # Given the program that reads the kernel's memory, calling what no kernel has
    wrong = tuple(
        (code, registers, offset, 0x7FFFFFFF if code == trial._CALL else immediate)
        for code, registers, offset, immediate in trial._READS_KERNEL
    )
    if trial.load_program() is not None:
        pytest.skip(f"this kernel takes none of ours: {trial.load_program()}")

    # Then the verifier sees that, and takes the right one
    assert trial._load(wrong) == "EINVAL, invalid argument"
    assert trial.load_kernel_reader() is None
    assert trial.create_ring(5000) == "EINVAL, invalid argument"


def test_nothing_stays_open() -> None:
    """What was loaded is closed at once."""
    before = os.listdir("/proc/self/fd")

    trial.load_program()
    trial.load_kernel_reader()
    trial.create_ring(4096)

    assert os.listdir("/proc/self/fd") == before


def test_a_machine_whose_numbers_we_do_not_know_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system call by that number might do anything."""

    def asked(*_: object) -> None:
        pytest.fail("the kernel was asked")

    monkeypatch.setattr(trial, "_BPF", {})
    monkeypatch.setattr("ctypes.CDLL", asked)

    assert trial.load_program() == f"not tried on {os.uname().machine}"
