# SPDX-License-Identifier: Apache-2.0
"""Are a kernel's refusals told program by program, and in its own words?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.kernel import event
from agent.kernel.libbpf import BpfError, Library
from agent.kernel.object import BpfObject, load_willing

pytestmark = [pytest.mark.root, pytest.mark.kernel]

SETTINGS = event.pack_settings(event.NameFilter(), event.Who(own=(os.getpid(),)))


@pytest.fixture(scope="module")
def image(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The compiled refused.bpf.c, linked with what probes share."""
    place = tmp_path_factory.mktemp("refused") / "refused.bpf.o"
    linked = place.with_name("linked.bpf.o")
    common = objects.parent / "build" / "bpf" / "common.bpf.o"
    target = {"x86_64": "x86", "aarch64": "arm64"}[os.uname().machine]
    flags = ["-target", "bpf", f"-D__TARGET_ARCH_{target}", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror"]
    includes = [f"-I{objects}", f"-I{objects.parent}/build/bpf"]
    source = str(Path(__file__).with_name("refused.bpf.c"))
    subprocess.run(["clang", *flags, *includes, "-c", source, "-o", str(place)], check=True)
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    subprocess.run([bpftool, "gen", "object", str(linked), str(common), str(place)], check=True)
    return linked.read_bytes()


def prepared(image: bytes) -> BpfObject:
    """An object with its settings, ready to be loaded."""
    opened = BpfObject(Library.shared(), "refused", image)
    opened.set_settings(SETTINGS)
    opened.set_entries("accepted_ring", 65536)
    return opened


def test_a_refused_program_does_not_cost_its_neighbours(image: bytes) -> None:
    """libbpf gives up a whole object for one program; the agent must not."""
    # Given an object of which the verifier accepts one program and refuses the other
    # When it is loaded as far as the kernel is willing
    loaded, refused = load_willing(lambda: prepared(image), lambda programs: programs)
    with loaded:
        # Then the one is there and the other has the verifier's own reason
        assert list(refused) == ["refused"]
        assert refused["refused"].reason.startswith(
            "EACCES: R0 min value is outside of the allowed memory range"
        )
        assert refused["refused"].step == "load"
        assert loaded.per_cpu("counters", event.COUNTERS.size)


def test_an_object_that_is_refused_as_a_whole_says_why(image: bytes) -> None:
    """Somebody has to find out from this sentence alone."""
    # Given an object of which only the hopeless program is asked for
    with prepared(image) as opened, pytest.raises(BpfError) as caught:
        # When it is loaded
        opened.load(("refused",))
    # Then the message has the object, the step, the errno's name and the verifier's reason
    assert str(caught.value).startswith(
        "cannot load refused: EACCES: R0 min value is outside of the allowed memory range"
    )
    assert "refused" in caught.value.log


def test_an_object_of_another_build_is_refused_before_it_is_loaded(image: bytes) -> None:
    """Settings that land on other fields would filter nothing, or everything."""
    # Given an object
    with BpfObject(Library.shared(), "refused", image) as opened, pytest.raises(BpfError) as caught:
        # When the agent's settings have another size than its .rodata
        opened.set_settings(SETTINGS + b"\0" * 8)
    # Then it says so
    assert "different builds" in str(caught.value)


def test_bytes_that_are_no_object_are_refused_with_libbpfs_words(objects: Path) -> None:
    """A truncated file must not crash the agent."""
    # Given half an object
    half = (objects / "monitor.bpf.o").read_bytes()[:4000]
    # When it is opened
    with pytest.raises(BpfError) as caught:
        BpfObject(Library.shared(), "half", half)
    # Then libbpf's reason is told
    assert caught.value.step == "open"
    assert "half" in str(caught.value)
