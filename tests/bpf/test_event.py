# SPDX-License-Identifier: Apache-2.0
"""Do bpf/event.h and agent/kernel/event.py say the same? The compiler's words about the one tell."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.kernel import event

EVENTS = ("file_open", "lib_load", "process_exec", "process_exit")
STRUCTURES = (*EVENTS, "event_header", "file_identity", "settings", "counters", "fold_key", "fold")


@pytest.fixture(scope="module")
def structures(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Structures by name, as the BPF compiler laid them out, by the BTF of an object with one of each."""
    place = tmp_path_factory.mktemp("event")
    source, compiled = place / "event.c", place / "event.o"
    source.write_text('#include "event.h"\n' + "".join(f"struct {name} one_{name};\n" for name in STRUCTURES))
    subprocess.run(
        ["clang", "-target", "bpf", "-g", f"-I{objects}", "-c", str(source), "-o", str(compiled)], check=True
    )
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    raw = subprocess.run(
        [bpftool, "btf", "dump", "file", str(compiled), "format", "raw", "-j"],
        capture_output=True,
        check=True,
    )
    return {kind["name"]: kind for kind in json.loads(raw.stdout)["types"] if kind["kind"] == "STRUCT"}


def fields(structure: dict[str, Any]) -> list[tuple[str, int]]:
    """Names and offsets in bytes."""
    return [(member["name"], member["bits_offset"] // 8) for member in structure["members"]]


def offsets(form: struct.Struct) -> list[int]:
    """Where each value of a format begins."""
    codes = re.findall(
        r"\d*s|[A-Za-z]", re.sub(r"(\d+)([A-RT-Za-rt-z])", lambda m: m[2] * int(m[1]), form.format[1:])
    )
    return [struct.calcsize("=" + "".join(codes[:count])) for count in range(len(codes))]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("event_header", event.EVENT_HEADER),
        ("counters", event.COUNTERS),
        ("fold_key", event.FOLD_KEY),
        ("fold", event.FOLD),
        ("file_identity", event.FILE_IDENTITY),
    ],
)
def test_a_format_has_the_offsets_that_the_compiler_chose(
    name: str, form: struct.Struct, structures: dict[str, Any]
) -> None:
    """A field that moves on one side alone would turn every event into nonsense without any error."""
    # Given the structure in the object's BTF
    structure = structures[name]
    # When both sides are laid side by side
    # Then size and offsets are equal
    assert form.size == structure["size"]
    assert offsets(form) == [offset for _, offset in fields(structure)]


def flat(name: str, structures: dict[str, Any], at: int = 0) -> list[int]:
    """Offsets of a structure's fields; one that is a structure is replaced by its own fields."""
    found = []
    for field, offset in fields(structures[name]):
        inner = {"header": "event_header", "file": "file_identity"}.get(field)
        found += flat(inner, structures, at + offset) if inner else [at + offset]
    return found


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_a_header_and_its_own_fields(name: str, structures: dict[str, Any]) -> None:
    """The header is nested in C and flat in Python, so it is compared with its fields put in its place."""
    # Given an event's structure and its format
    form: struct.Struct = getattr(event, name.upper())
    # When the header is unfolded
    assert fields(structures[name])[0] == ("header", 0)
    # Then size and offsets are equal
    assert form.size == structures[name]["size"]
    assert offsets(form) == flat(name, structures)


def test_counters_have_the_names_of_the_kernel_half(structures: dict[str, Any]) -> None:
    """Two counters exchanged would report losses as filtered calls."""
    assert list(event.Counters._fields) == [name for name, _ in fields(structures["counters"])]


def test_settings_are_where_the_kernel_half_looks(structures: dict[str, Any]) -> None:
    """.rodata is written blindly, so every value must land on its field."""
    # Given settings whose values all differ
    names = event.NameFilter((b".pem", b".p12"), (b"id_",), (b"/etc/ssl/", b"/etc/pki/", b"/etc/ssh/"))
    who = event.Who(own=(21, 22), only=23, is_following=True, pid_namespace=(12, 13))
    packed = event.pack_settings(names, who, flags_ignored=14, is_folding=True)
    at = dict(fields(structures["settings"]))
    # When each field is read where BTF says it is
    # Then it holds its own value
    assert len(packed) == structures["settings"]["size"]
    wide = {
        name: struct.unpack_from("=Q", packed, at[name])[0] for name in at if "ns_" in name or "flags" in name
    }
    assert wide == {"pid_ns_device": 12, "pid_ns_inode": 13, "flags_ignored": 14}
    switches = ("own_family", "only_tgid", "follow", "fold")
    counts = ("suffix_count", "basename_count", "directory_count")
    narrow = [struct.unpack_from("=I", packed, at[name])[0] for name in (*switches, *counts)]
    assert narrow == [1, 23, 1, 1, 2, 1, 3]
    assert struct.unpack_from("=4I", packed, at["own_tgids"]) == (21, 22, 0, 0)
    assert packed[at["suffixes"] : at["suffixes"] + 32] == b".pem".rjust(
        16, b"\0"
    ) + b"\xff\xff\xff\xff".rjust(16, b"\0")
    assert packed[at["basenames"] : at["basenames"] + 16] == b"id_".ljust(16, b"\0")
    assert packed[at["directories"] + 64 : at["directories"] + 96] == b"/etc/pki/".ljust(32, b"\0")


def test_constants_are_those_of_the_header(house: Path) -> None:
    """The preprocessor is asked, so an expression in event.h is no excuse."""
    # Given the header's own definitions
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    said = subprocess.run(
        ["cc", "-E", "-dM", str(house / "bpf" / "event.h")], capture_output=True, text=True, check=True
    ).stdout
    defined = dict(re.findall(r"^#define ((?:NOTE|EVENT|CALLS|\w+_MAX)\w*) (\w+)$", said, re.MULTILINE))
    # When Python's are compared with them
    ours = {name: getattr(event, name) for name in defined if hasattr(event, name)}
    # Then each has the same value, and none that Python uses is missing in C
    assert ours == {name: int(defined[name], 0) for name in ours}
    assert {name for name in vars(event) if re.match(r"NOTE_|EVENT_(?!HEADER)|CALLS_|\w+_MAX$", name)} <= set(
        defined
    )
    assert {name for name in defined if name.startswith(("NOTE_", "EVENT_", "CALLS_"))} <= {
        *ours,
        "EVENT_KINDS",
    }
    # And the counters have a place for each kind of event
    assert int(defined["EVENT_KINDS"]) == 1 + max(ours[name] for name in ours if name.startswith("EVENT_"))
