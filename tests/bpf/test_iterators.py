# SPDX-License-Identifier: Apache-2.0
"""Do bpf/iterators.bpf.c and agent/kernel/iterators.py say the same, and is it what this host has?"""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import errors
from agent.host import Host
from agent.kernel import iterators
from agent.kernel.iterators import Held, Iterators

NAMES = ("settings", "process", "mapping", "descriptor")


@pytest.fixture(scope="module")
def structures(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Structures by name, as the BPF compiler laid them out, by the BTF of an object with one of each."""
    place = tmp_path_factory.mktemp("iterators")
    source, compiled = place / "iterators.c", place / "iterators.o"
    source.write_text(
        '#include "vmlinux.h"\n#include "iterators.h"\n'
        + "".join(f"struct {name} one_{name};\n" for name in NAMES)
    )
    folders = [f"-I{objects}", f"-I{objects.parent}/build/bpf"]
    subprocess.run(
        ["clang", "-target", "bpf", "-g", *folders, "-c", str(source), "-o", str(compiled)], check=True
    )
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    raw = subprocess.run(
        [bpftool, "btf", "dump", "file", str(compiled), "format", "raw", "-j"],
        capture_output=True,
        check=True,
    )
    return {kind["name"]: kind for kind in json.loads(raw.stdout)["types"] if kind["kind"] == "STRUCT"}


def offsets(form: struct.Struct) -> list[int]:
    """Where each value of a format begins."""
    codes = re.findall(
        r"\d*s|[A-Za-z]", re.sub(r"(\d+)([A-RT-Za-rt-z])", lambda m: m[2] * int(m[1]), form.format[1:])
    )
    return [struct.calcsize("=" + "".join(codes[:count])) for count in range(len(codes))]


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("settings", (iterators.SETTINGS,)),
        ("process", (iterators.PROCESS,)),
        ("mapping", (iterators.MAPPING,)),
        ("descriptor", (iterators.DESCRIPTOR, iterators.FILE)),
    ],
)
def test_a_format_has_the_offsets_that_the_compiler_chose(
    name: str, forms: tuple[struct.Struct, ...], structures: dict[str, Any]
) -> None:
    """A field that moves on one side alone would turn every record into nonsense without any error."""
    whole = struct.Struct("=" + "".join(form.format[1:] for form in forms))
    fields = [member for member in structures[name]["members"] if member["name"] not in ("exe", "path")]

    assert whole.size == structures[name]["size"]
    assert offsets(whole) == [member["bits_offset"] // 8 for member in fields]


@pytest.fixture
def loaded(objects: Path) -> Iterators:
    """The programs in this kernel."""
    try:
        return Iterators(Host(), 1000)
    except (errors.PrivilegeError, errors.KernelError, errors.AttachError) as error:
        pytest.skip(str(error))


def nothing_known() -> dict[bytes, str | None]:
    """Of files."""
    return {}


@pytest.mark.root
@pytest.mark.kernel
def test_this_process_is_told_as_proc_tells_it(loaded: Iterators, tmp_path: Path) -> None:
    """Number, start, name, program, mappings and descriptors."""
    path = tmp_path / os.fsdecode(b"a\xffb")
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    with loaded:
        ((head, run),) = [one for one in loaded.mappings() if one[0].pid == os.getpid()]
        held = [
            one
            for identity, one in loaded.descriptors(nothing_known())
            if identity == head.identity and isinstance(one, Held) and one.number == fd
        ]
        start_ticks = loaded.start_ticks(head.identity)
    os.close(fd)

    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert start_ticks == int(stat[19])
    assert head.name == Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    assert head.exe == os.fsencode(os.readlink("/proc/self/exe"))
    assert head.uid == os.getuid()
    page = Path("/proc/self/maps").read_text()
    assert len(run) // iterators.MAPPING.size == len(re.findall(r"(?m)^\S+ ..x. \S+ \S+ [1-9]", page))
    assert [one.name for one in held] == [os.fsencode(path)]
    info = Path("/proc/self/mountinfo").read_text()
    assert held[0].mount in [int(line.split()[0]) for line in info.splitlines()]


@pytest.mark.root
@pytest.mark.kernel
def test_what_is_known_to_be_nothing_is_left_out(loaded: Iterators) -> None:
    """Most files are, and each would cost a look."""
    with loaded:
        known: dict[bytes, str | None] = {}
        every = [one for _, one in loaded.descriptors(known)]
        keys = {one.key for one in every if isinstance(one, Held) and one.key}
        assert keys
        known = dict.fromkeys(keys)
        left = [one for _, one in loaded.descriptors(known)]
        known = dict.fromkeys(keys, "known")
        told = [one for _, one in loaded.descriptors(known)]

    assert len(left) < len(every)
    assert not {one.key for one in left if isinstance(one, Held)} & keys
    assert "known" in told


@pytest.mark.root
@pytest.mark.kernel
@pytest.mark.usefixtures("objects")
def test_descriptors_beyond_the_limit_end_with_one_word() -> None:
    """A process with a million of them costs the kernel's walk and no more."""
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
    try:
        with Iterators(Host(), 20) as few:
            own = [one for (pid, _), one in few.descriptors(nothing_known()) if pid == os.getpid()]
    except errors.KernelError as error:
        pytest.skip(str(error))
    finally:
        for fd in kept:
            os.close(fd)

    rests = [one for one in own if isinstance(one, Held) and one.is_rest]
    assert len(rests) == 1
    assert own[-1] is rests[0]


@pytest.mark.root
@pytest.mark.kernel
def test_a_process_whose_records_take_many_reads_is_told_whole(loaded: Iterators, tmp_path: Path) -> None:
    """The kernel gives 32 KiB at a time, and a process with 3,000 mappings has more."""
    path = tmp_path / "code"
    path.write_bytes(bytes(mmap.PAGESIZE * 2))
    with path.open("rb") as file:
        # Every second page, or the kernel makes one mapping of two.
        kept = [
            mmap.mmap(
                file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_SHARED
            )
            for _ in range(3000)
        ]
        try:
            with loaded:
                every = list(loaded.mappings())
        finally:
            for one in kept:
                one.close()

    (run,) = [run for head, run in every if head.pid == os.getpid()]
    assert len(run) % iterators.MAPPING.size == 0
    assert len(run) // iterators.MAPPING.size >= 3000
    pids = [head.pid for head, _ in every]
    assert pids == sorted(set(pids))
