# SPDX-License-Identifier: Apache-2.0
"""Is everything taken from a child, as the kernel sees it and as the child finds it?"""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.guard import confine
from agent.guard.parsing import Opened
from agent.guard.sandbox import Sandbox
from tests.agent import read_functions as readers
from tests.agent.cli.commands import AS_NOBODY, may_be_nobody

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
# By the bit of each (include/uapi/linux/capability.h).
NEEDED = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8, "CAP_SYS_ADMIN": 21}
EM_NUMBERS = {"x86_64": 62, "aarch64": 183}
REFUSED, ALLOWED = confine._REFUSE, confine._ALLOW


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One that is closed at the end."""
    with Sandbox() as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    """An open file."""
    path = tmp_path / "there"
    path.write_bytes(b"content")
    fd = os.open(path, os.O_RDONLY)
    yield Opened(fd, str(path))
    os.close(fd)


# -- the filter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    """A wrong number allows another call, and on one of the two architectures nobody here would notice."""
    page = HEADERS[machine]
    if not page.is_file():
        pytest.skip(f"{page} is not there (linux-libc-dev)")
    found = re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", page.read_text(), re.MULTILINE)
    theirs = {name: int(number) for name, number in found}
    calls = confine._CALLS[machine]

    ours = calls.allowed | calls.allowed_unless_executable | {"capset": calls.capset}

    assert ours == {name: theirs[name] for name in ours}
    # AUDIT_ARCH_*: the ELF machine, 64 bits, little-endian (include/uapi/linux/audit.h).
    assert calls.audit == 0xC0000000 | EM_NUMBERS[machine]


def test_both_architectures_allow_the_same_calls() -> None:
    """What a reader may do does not depend on the machine."""
    names = [set(calls.allowed) | set(calls.allowed_unless_executable) for calls in confine._CALLS.values()]

    assert names[0] == names[1]


def run(program: list[tuple[int, int, int, int]], number: int, audit: int, protection: int = 0) -> int:
    """What the kernel's machine for filters answers (Documentation/networking/filter.rst)."""
    data = {confine._NUMBER_AT: number, confine._ARCHITECTURE_AT: audit, confine._PROTECTION_AT: protection}
    accumulator = at = 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == confine._LOAD:
            accumulator = data[constant]
        elif code == confine._RETURN:
            return constant
        else:
            is_true = accumulator == constant if code == confine._EQUAL else accumulator & constant
            at += if_true if is_true else if_false


@pytest.mark.parametrize("machine", HEADERS)
def test_the_filter_allows_what_the_table_says_and_nothing_else(machine: str) -> None:
    """Every number there is, also with another architecture's mark, x32's, and executable memory."""
    calls = confine._CALLS[machine]
    program = confine._program(calls)
    allowed = set(calls.allowed.values())
    checked = set(calls.allowed_unless_executable.values())

    for number in range(700):
        says = run(program, number, calls.audit)
        assert says == (ALLOWED if number in allowed | checked else REFUSED)
        with_code = run(program, number, calls.audit, protection=7)
        assert with_code == (ALLOWED if number in allowed else REFUSED)
        assert run(program, number | 0x40000000, calls.audit) == REFUSED
        assert run(program, number, 0x40000003) == REFUSED
    assert all(0 <= jump < 256 for instruction in program for jump in instruction[1:3])


# -- as the kernel sees it -----------------------------------------------------------------------------------


@pytest.mark.root
def test_a_child_of_root_is_nobody_with_nothing(sandbox: Sandbox, file: Opened) -> None:
    """Read from /proc by its parent, which may."""
    secret, lock = os.pipe()

    (child,) = sandbox.parse(readers.pid, [file])

    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{child}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert isinstance(child, int)
    # Its own user, whom no other process is: `nobody` may stop and kill whoever else is nobody.
    assert status["Uid"].split() == [str(confine.NOBODY_FROM + child)] * 4
    assert status["Gid"].split() == [str(confine.NOBODY_FROM + child)] * 4
    assert status["Groups"].split() == []
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("1", "2", "1")
    assert os.readlink(f"/proc/{child}/ns/net") != os.readlink("/proc/self/ns/net")
    opened = {name: os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")}
    assert opened.pop("3").startswith("socket:")
    assert opened == dict.fromkeys("012", "/dev/null")
    assert Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"
    limits = Path(f"/proc/{child}/limits").read_text()
    for name in ("Max core file size", "Max processes", "Max file size", "Max locked memory"):
        assert re.search(rf"^{name} +0 +0 ", limits, re.MULTILINE)
    assert re.search(r"^Max open files +68 +68 ", limits, re.MULTILINE)
    os.close(secret)
    os.close(lock)


@pytest.mark.root
def test_where_everything_is_allowed_every_layer_holds(sandbox: Sandbox) -> None:
    """A layer that silently stopped to hold would be missed by nobody, because the others hold."""
    effective = re.search(r"^CapEff:\t(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert effective is not None
    missing = [name for name, bit in NEEDED.items() if not int(effective[1], 16) >> bit & 1]
    if missing:
        pytest.skip(f"this root lacks {', '.join(missing)}")

    assert {layer.reason for layer in sandbox.layers} == {None}
    assert len(sandbox.layers) == 12


def test_no_page_is_shared_that_a_child_could_write(file: Opened) -> None:
    """As the page of a ring buffer by which the kernel is told how far it was read."""
    with mmap.mmap(-1, mmap.PAGESIZE) as shared, Sandbox() as sandbox:
        shared[0] = 1
        sandbox.start()
        if os.geteuid():
            pytest.skip("only root may look at the memory of a process that is not dumpable")
        (child,) = sandbox.pids

        pages = [line.split()[1] for line in Path(f"/proc/{child}/maps").read_text().splitlines()]

        assert [flags for flags in pages if flags[1] == "w" and flags[3] == "s"] == []
        assert shared[0] == 1


# -- as the child finds it -----------------------------------------------------------------------------------

DRIVER = """
import json, os, sys
from agent.guard.parsing import Opened
from agent.guard.sandbox import Sandbox
from tests.agent import read_functions as readers

folder = sys.argv[1]
fd = os.open(folder + "/there", os.O_RDONLY)
with Sandbox() as sandbox:
    (said,) = sandbox.parse(readers.attempt, [Opened(fd, "there")], os.getpid(), folder)
    (seen,) = sandbox.parse(readers.descriptors, [Opened(fd, "there")])
    print(json.dumps({
        "said": said if isinstance(said, dict) else str(said),
        "seen": seen,
        "held": {layer.name: layer.reason for layer in sandbox.layers},
    }))
"""
# Of the unit: what systemd leaves to a service that runs as root.
BOUNDED = "+dac_read_search,+sys_ptrace,+perfmon,+bpf,+checkpoint_restore"
WHO = {
    "as it is run here": (),
    "nobody": AS_NOBODY,
    "nobody with no new privileges": (*AS_NOBODY, "--no-new-privs"),
    "root in a bounded unit": ("setpriv", "--bounding-set", f"-all,{BOUNDED}", "--no-new-privs"),
    "root in a unit that may change users": (
        "setpriv", "--bounding-set", f"-all,{BOUNDED},+setuid,+setgid,+setpcap,+kill", "--no-new-privs",
    ),
    "root that could not end it": (
        "setpriv", "--bounding-set", f"-all,{BOUNDED},+setuid,+setgid,+setpcap", "--no-new-privs",
    ),
}  # fmt: skip
HELD_EVERYWHERE = {
    "descriptors", "shared memory", "capabilities", "limits", "not dumpable", "ends with its parent",
    "no new privileges", "system calls",
}  # fmt: skip


@pytest.mark.parametrize("who", WHO)
def test_a_child_can_do_nothing_whoever_made_it(who: str, tmp_path: Path, house: Path) -> None:
    """Tried by the child itself, one by one; the filter refuses, and so it is no matter who it is."""
    if WHO[who]:
        if os.geteuid():
            pytest.skip(f"needs root, this is uid {os.geteuid()}")
        may_be_nobody()
        for folder in (tmp_path, *tmp_path.parents[:-2]):
            folder.chmod(0o755)
    (tmp_path / "there").write_bytes(b"\x90" * 4096)
    (tmp_path / "there").chmod(0o644)

    done = subprocess.run(
        [*WHO[who], sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)],
        cwd=house, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["said"].values()) == {"EPERM"}, found["said"]
    assert len(found["said"]) > 30
    # Its three of nothing, the socket, and the one file.
    assert found["seen"] == [0, 1, 2, 3, 4]
    assert sorted(os.listdir(tmp_path)) == ["there"]
    assert {name for name, reason in found["held"].items() if reason is None} >= HELD_EVERYWHERE
    if who == "root in a bounded unit":
        assert "CAP_KILL" in found["held"]["user"]
    if who == "root that could not end it":
        assert "CAP_KILL" in found["held"]["user"]
    if who == "root in a unit that may change users":
        assert {name for name, reason in found["held"].items() if reason} == {"network namespace"}
