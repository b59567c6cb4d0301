# SPDX-License-Identifier: Apache-2.0
"""Does a record of lib_load become the event that it is? On records made of bytes."""

from __future__ import annotations

import msgspec
import pytest

from agent.kernel import event
from agent.kernel.probes.lib_load import FileIdentity, decode, stem
from tests.agent.kernel.records import COMMON, EXE, OFFSET_NS, record

FILE = b"libssl.so.3\0lib\0usr\0"
IDENTITY = (11, 12, 8 << 20 | 5, 13)


def load(file: bytes = FILE, exe: bytes = EXE, *, notes: int = 0, kind: int = event.EVENT_LIB_LOAD) -> bytes:
    """A record as the kernel half writes it."""
    return record(
        event.LIB_LOAD, kind, *IDENTITY, 0x7F00_0000_0000, 4097, len(file), len(exe),
        tail=file + exe, notes=notes,
    )  # fmt: skip


def test_an_ordinary_load_is_told_whole() -> None:
    """Every field has its own value here, so none can be exchanged."""
    assert msgspec.to_builtins(decode(load(), OFFSET_NS)) == {
        "event_type": "lib_load",
        **COMMON,
        "exe": "/usr/sbin/nginx",
        "library": "/usr/lib/libssl.so.3",
        "library_name": "libssl",
        "identity": {"inode": 11, "changed_ns": 12, "device": 8 << 20 | 5, "generation": 13},
        "address": 0x7F00_0000_0000,
        "length": 4097,
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/usr/lib/libssl.so.3", "libssl"),
        ("libcrypto.so.1.1", "libcrypto"),
        ("/w/libcrypto-3a1b2c4d.so.1.1", "libcrypto"),
        ("/w/libfoo-bar.so", "libfoo-bar"),
        ("/w/_rust.abi3.so", "_rust.abi3"),
        ("/usr/lib/libstdc++.so.6.0.30", "libstdc++"),
        ("/tmp/innocent.bin", "innocent"),
        ("/tmp/innocent", "innocent"),
        ("/tmp/.hidden", ".hidden"),
        ("/tmp/two.parts.bin", "two.parts"),
        ("line\nbreak.so", "line\nbreak"),
    ],
)
def test_a_name_without_its_endings(name: str, said: str) -> None:
    """What users' scripts compare with."""
    assert stem(name) == said


def test_a_deleted_file_is_marked_beside_its_path() -> None:
    """A file may really be called so; the mark is no part of the name."""
    seen = decode(load(notes=event.NOTE_FILE_DELETED), 0)
    assert (seen.library, seen.deleted) == ("/usr/lib/libssl.so.3", True)


def test_a_path_that_was_cut_is_the_bare_name() -> None:
    """It begins with no slash, so nobody takes it for a path."""
    seen = decode(load(b"libssl.so.3\0", b"x\0", notes=event.NOTE_FILE_CUT | event.NOTE_EXE_CUT), 0)
    assert (seen.library, seen.exe) == ("libssl.so.3", None)


def test_a_device_is_told_as_mount_tables_have_it() -> None:
    """So that its file system can be looked up before the file is touched."""
    assert decode(load(), 0).identity.major_minor == (8, 5)


def test_an_identity_is_what_the_kernel_half_compares() -> None:
    """It is given back, byte for byte, to have the file left out."""
    identity = decode(load(), 0).identity
    assert identity == FileIdentity(11, 12, 8 << 20 | 5, 13)
    assert load()[event.EVENT_HEADER.size :].startswith(identity.pack())
    assert len({identity, FileIdentity(11, 12, 8 << 20 | 5, 13)}) == 1


@pytest.mark.parametrize(
    "bad",
    [
        load(kind=event.EVENT_FILE_OPEN),
        load()[:-1],
        load() + b"x",
        load(file=b""),
        load(file=b"no end"),
        load(exe=b"no end"),
    ],
)
def test_what_contradicts_itself_is_malformed(bad: bytes) -> None:
    """Nothing in it can be trusted then."""
    with pytest.raises(event.MalformedEventError):
        decode(bad, 0)
