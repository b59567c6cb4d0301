# SPDX-License-Identifier: Apache-2.0
"""Hosts as hypothesis invents them: what users may call files and programs, and what they may put in them."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.agent import openssl
from tests.agent.elf_files import elf_file
from tests.agent.fake_host import LIBCRYPTO, LIBSSL, FakeHost

FOLDERS = (
    "/etc/ssl", "/etc/ssl/certs", "/etc/pki/tls", "/usr/local/share/ca-certificates", "/home/alice",
    "/home/bob", "/home/alice/deep/er", "/srv/www", "/opt/app/lib", "/usr/lib/x86_64-linux-gnu", "/root",
    "/var/lib/app", "/elsewhere",
)  # fmt: skip
# What has made trouble somewhere, and what would make it here.
_ODD = (
    b"a.pem", b"b.crt", b"a.pem (2)", b"a.pem (deleted)", b" (deleted)", b"with space", b"new\nline.pem",
    b'quo"te\'.pem', b"back\\slash.pem", b"\\xff.pem", b"\xff.pem", b"\xc3\xa9.pem", b"\xc3.pem", b"\x1b[31m",
    b"\x00"[:0] + b"\x7f\x07\x08", b"a.pem#CN=web", b"#", b"-", b"-----BEGIN CERTIFICATE-----",
    "\u202e\u2028.pem".encode(), b"\xed\xa0\x80.pem", b"libssl.so.1.1", b"x" * 255,
)  # fmt: skip
_names = st.sampled_from(_ODD) | st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_")
).filter(lambda raw: raw not in (b".", b"..", b"certs", b"deep"))


@functools.cache
def contents() -> tuple[bytes, ...]:
    """What a file may hold: certificates, keys, libraries, and what looks like them."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = (
            openssl.make(Path(folder), subject) for subject in ("/CN=web", "/O=back\\\\slash/CN=\u00e9")
        )
        same_subject = openssl.make(Path(folder), "/CN=web").certificate
    return (
        one.certificate,
        other.certificate,
        one.certificate + other.certificate + same_subject,
        one.key + one.certificate,
        one.der,
        one.der[:-1],
        one.certificate.replace(b"END CERTIFICATE", b"END"),
        b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n" + b" " * 200,
        elf_file("libssl.so.3"),
        elf_file("libcrypto.so.3", build_id=None, constants=b"\0OpenSSL 3.0.15 3 Sep 2024\0"),
        b"\x7fELF" + b"\xff" * 300,
        b"",
        b"text " * 100,
    )


@dataclass(frozen=True)
class File:
    """A file; `content` is a number of `contents`."""

    path: bytes
    content: int
    mode: int


@dataclass(frozen=True)
class Link:
    """Another name of something that is there or not; a hard one only where it is."""

    path: bytes
    target: bytes
    is_hard: bool


@dataclass(frozen=True)
class Process:
    """A program that runs."""

    pid: int
    name: bytes
    exe: bytes
    libraries: tuple[str, ...]
    fds: tuple[bytes, ...]
    uid: int
    unit: bytes


Item = File | Link | Process

_paths = st.builds(lambda folder, name: folder.encode() + b"/" + name, st.sampled_from(FOLDERS), _names)
_files = st.builds(
    File, path=_paths, content=st.integers(0, 12), mode=st.sampled_from((0o644, 0o600, 0o4755, 0o666))
)
_links = st.builds(Link, path=_paths, target=_paths, is_hard=st.booleans())
_processes = st.builds(
    Process,
    pid=st.integers(2, 40),
    name=_names.map(lambda name: name[:15]),
    exe=_paths,
    libraries=st.lists(st.sampled_from((LIBCRYPTO, LIBSSL)), unique=True).map(tuple),
    fds=st.lists(_paths, max_size=3).map(tuple),
    uid=st.sampled_from((0, 33, 1000, 4294967294)),
    unit=_names.map(lambda name: name.replace(b"\n", b"_") + b".service"),
)


def _distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    found = {item.pid if isinstance(item, Process) else item.path: item for item in items}
    return tuple(found.values())


plans = st.lists(_files | _links | _processes, max_size=14).map(_distinct)


def build(root: Path, plan: Sequence[Item]) -> FakeHost:
    """The host of a plan; hard links and processes are made when what they are of is there."""
    host = FakeHost(root)
    host.file(
        "/etc/passwd", b"root:x:0:0::/root:\nalice:x:1000:1000::/home/alice:\nbob:x:1001:1001::/home/bob:\n"
    )
    for item in plan:
        if isinstance(item, File):
            host.file(item.path, contents()[item.content], item.mode)
    for item in plan:
        if isinstance(item, Link):
            target = host.place(item.target)
            if not item.is_hard:
                host.link(item.path, item.target)
            elif any(isinstance(other, File) and other.path == item.target for other in plan):
                os.link(target, host.place(item.path))
    for item in plan:
        if isinstance(item, Process):
            host.process(
                item.pid, item.name, exe=item.exe, libraries=item.libraries, fds=item.fds, uid=item.uid,
                cgroup=b"0::/system.slice/" + item.unit + b"\n",
            )  # fmt: skip
    return host
