# SPDX-License-Identifier: Apache-2.0
"""Does every probe keep the contract of its folder? Whatever probes there are."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from agent import discover
from agent.kernel import event, probes
from agent.kernel.monitor import names
from agent.kernel.probes import Event, Spec

FOUND = discover.plugins(probes)


def test_there_are_probes_and_they_are_found_by_folder() -> None:
    """Also in the frozen file, which has no folder to list."""
    assert "file_open" in names()
    assert names() == tuple(sorted(FOUND))


@pytest.mark.parametrize("name", FOUND)
def test_a_probe_has_what_the_contract_says(name: str, house: Path) -> None:
    """One file here and one in bpf/, and nothing else to edit."""
    # Given a probe
    probe: ModuleType = FOUND[name]
    # When it is looked at
    # Then it has a help line, a specification that the kernel half can hold, and its other half
    assert discover.help_text(probe).endswith(".")
    assert isinstance(probe.SPEC, Spec)
    assert event.pack_settings(probe.SPEC.names, event.Who(own=(1,)))
    source = (house / "bpf" / f"{name}.bpf.c").read_text()
    assert f"RING({name});" in source
    assert re.search(rf"^int (BPF_PROG\()?{name}\b", source, re.MULTILINE)
    # A ring is a power of 2, and not of a size that would starve a small host.
    assert probe.SPEC.ring_bytes.bit_count() == 1
    assert probe.SPEC.ring_bytes <= 4 * 1024 * 1024
    assert list(inspect.signature(probe.decode).parameters) == ["record", "wall_offset_ns"]


def test_no_probe_is_taken_for_another() -> None:
    """Programs and maps belong to a probe by the beginning of their names; events, by their number."""
    assert [name for name in FOUND if any(other.startswith(f"{name}_") for other in FOUND)] == []
    assert len({probe.SPEC.event for probe in FOUND.values()}) == len(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_a_probe_calls_garbage_malformed(name: str) -> None:
    """Nothing else may come out of it, or the stream ends."""
    for garbage in (b"", b"\0" * 71, b"\xff" * 4096):
        with pytest.raises(event.MalformedEventError):
            FOUND[name].decode(garbage, 0)


@pytest.mark.parametrize("name", FOUND)
def test_a_probe_is_in_the_registry_with_all_its_fields(name: str, house: Path) -> None:
    """bpf/README.md is what people read instead of the code."""
    # Given the registry, and the event that the probe returns
    registry = (house / "bpf" / "README.md").read_text()
    kind = inspect.signature(FOUND[name].decode, eval_str=True).return_annotation
    # When its fields are looked up in its own chapter
    chapter = registry.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    common = {field.encode_name for field in msgspec.structs.fields(Event)}
    shared = registry.split("## Every event\n", 1)[1].split("\n## ", 1)[0]
    # Then each is there, and none that does not exist
    assert issubclass(kind, Event)
    assert set(re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE)) == fields - common
    assert set(re.findall(r"^\| `(\w+)` \|", shared, re.MULTILINE)) == common | {"event_type"}
