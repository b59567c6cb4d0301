# SPDX-License-Identifier: Apache-2.0
"""Which distribution package owns a file? Asked of dpkg's and rpm's own records, many files in one pass."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent import errors
from agent.host import Host
from agent.model import canonical
from agent.model.location import Package
from agent.readers.whole import READ_BYTES_MAX

_DPKG = "/var/lib/dpkg"
# Where rpm keeps its database: most distributions, the newer place (SUSE, Fedora), and image-based systems.
_RPM_DATABASES = tuple(
    f"{folder}/{name}"
    for folder in ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
    for name in ("rpmdb.sqlite", "Packages.db", "Packages")
)
# Asking for every file of every package is one pass over the database; asking for files by name (`rpm -qf`)
# is slower (measured: 300 names 0.85 s, all 24,000 names 0.02 s), exits with the number of files that nobody
# owns, and does not say which of its answers belongs to which name.
_RPM_ARGV = ("/usr/bin/rpm", "-qa", "--queryformat", "=%{NAME} %{EVR}\\n[%{FILENAMES}\\n]")
# Looking for so many beginnings in a list costs as much as reading all its lines.
_FOLDERS_MAX = 8
# Room for a list; the largest of a desktop have some hundred KiB.
_LIST_BYTES = 256 * 1024
# What is left of a library's file name without this, its package's name begins with.
_AFTER_STEM = re.compile(rb"[^A-Za-z0-9].*", re.DOTALL)
# 60 bytes per file, so about a million files.
_RPM_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Request:
    """One listing that would make a package the owner of `path`."""

    path: str
    only: bytes | None = None
    """The one package whose listing counts: it diverted the others' file away from here (dpkg-divert(1))."""
    never: bytes | None = None
    """The package whose listing does not count: what it installs stands elsewhere."""


def owners(host: Host, paths: Iterable[str]) -> dict[str, Package]:
    """The owning package of each path that has one.

    A path may be the real one or lead through a link at the root of the file system (`/lib` for `/usr/lib`);
    packages may list either. Where several packages own a file (one build per architecture), the first by
    name is given. A host that is a directory is asked about dpkg alone: rpm is a program, and programs do not
    run on foreign roots.

    Raises:
        HostError: a package database is there and cannot be read.
        ToolError: rpm has a database and gave no answer. (Without an answer the caller must not take files
            for unowned.)

    Source: dpkg's /var/lib/dpkg/info/*.list, diversions and status; rpm(8) --queryformat.
    """
    links = _root_links(host)
    wanted = {path: _canonical(os.fsencode(path), links) for path in paths}
    found: dict[str, Package] = {}
    if wanted and host.exists(f"{_DPKG}/info"):
        found |= _dpkg_owners(host, wanted, links)
    if rest := {path: name for path, name in wanted.items() if path not in found}:
        found |= _rpm_owners(host, rest, links)
    return found


def _root_links(host: Host) -> dict[bytes, bytes]:
    """Links at the root, both sides with a final slash: `/lib/` -> `/usr/lib/` where /usr is merged."""
    found = {}
    for name in host.list_dir("/"):
        try:
            target = host.read_link(f"/{name}")
        except errors.HostError:
            continue
        absolute = os.path.normpath(f"/{target}")
        found[os.fsencode(f"/{name}/")] = os.fsencode(absolute) + b"/"
    return found


def _canonical(name: bytes, links: dict[bytes, bytes]) -> bytes:
    for link, target in links.items():
        if name.startswith(link):
            return target + name[len(link) :]
    return name


def _spellings(name: bytes, links: dict[bytes, bytes]) -> Iterator[bytes]:
    """Every way in which a package may list a canonical name."""
    yield name
    for link, target in links.items():
        if name.startswith(target):
            yield link + name[len(target) :]


# -- dpkg ----------------------------------------------------------------------------------------------------


def _dpkg_owners(host: Host, wanted: dict[str, bytes], links: dict[bytes, bytes]) -> dict[str, Package]:
    requests = _dpkg_requests(wanted, links, _diversions(host, links))
    lists = [name for name in host.list_dir(f"{_DPKG}/info") if name.endswith(".list")]
    # libssl3 has libssl.so.3: as a rule a few lists tell all. A file has one owner, or builds of one package
    # for several architectures, so that the others need not be read.
    stems = tuple({_AFTER_STEM.sub(b"", name.rpartition(b"/")[2]).decode() for name in wanted.values()})
    owner: dict[str, bytes] = {}
    for is_likely in (True, False):
        if len(owner) < len(wanted):
            some = [name for name in lists if name.startswith(stems) is is_likely]
            _read_lists(host, some, requests, owner)
    versions = _dpkg_versions(host, set(owner.values()))
    return {
        path: Package(
            manager="dpkg",
            name=canonical.escape_bytes(package.partition(b":")[0]),
            version=versions.get(package),
        )
        for path, package in owner.items()
    }


def _read_lists(
    host: Host, lists: list[str], requests: dict[bytes, list[_Request]], owner: dict[str, bytes]
) -> None:
    """Note the first owner of each path in these lists, unless one is known."""
    beginnings = _beginnings(requests)
    room = bytearray(_LIST_BYTES)
    for file_name in lists:
        try:
            size = _read_into(host, f"{_DPKG}/info/{file_name}", room)
        except errors.VanishedError:
            # The package was removed while we looked.
            continue
        if not any(room.find(beginning, 0, size) >= 0 for beginning in beginnings):
            continue
        hits = requests.keys() & bytes(memoryview(room)[:size]).split(b"\n")
        package = os.fsencode(file_name.removesuffix(".list"))
        bare = package.partition(b":")[0]
        for request in (request for hit in hits for request in requests[hit]):
            if request.only in (None, bare) and request.never != bare:
                owner.setdefault(request.path, package)


def _read_into(host: Host, path: str, room: bytearray) -> int:
    """A whole file into memory that is there already, and grows for the file; returns its size."""
    size = 0
    try:
        with host.open(path) as fd:
            while size <= READ_BYTES_MAX and (count := os.readv(fd, [memoryview(room)[size:]])):
                size += count
                if size == len(room):
                    room.extend(bytes(size))
    except OSError as error:
        raise errors.host_error(error, path) from error
    if size > READ_BYTES_MAX:
        raise errors.TooLargeError(path, f"more than {READ_BYTES_MAX} bytes")
    return size


def _beginnings(names: Iterable[bytes]) -> list[bytes]:
    """What a list with any of these names has in it, at least: looking for that is quicker than for lines.

    Names that are asked for together stand in few folders, and begin alike there: libraries with `lib`.
    """
    folders: dict[bytes, list[bytes]] = {}
    for name in names:
        folder, _, last = name.rpartition(b"/")
        folders.setdefault(folder, []).append(last)
    if len(folders) > _FOLDERS_MAX:
        return [b""]
    return [folder + b"/" + _common(names) for folder, names in folders.items()]


def _common(names: list[bytes]) -> bytes:
    """The longest beginning of all."""
    first, last = min(names), max(names)
    return first[
        : next((at for at, byte in enumerate(first) if last[at : at + 1] != bytes([byte])), len(first))
    ]


def _dpkg_requests(
    wanted: dict[str, bytes], links: dict[bytes, bytes], diversions: list[tuple[bytes, bytes, bytes]]
) -> dict[bytes, list[_Request]]:
    away = {source: package for source, _, package in diversions}
    came = {target: (source, package) for source, target, package in diversions}
    requests: dict[bytes, list[_Request]] = {}

    def ask(name: bytes, request: _Request) -> None:
        for spelling in _spellings(name, links):
            requests.setdefault(spelling, []).append(request)

    for path, name in wanted.items():
        ask(name, _Request(path, only=away.get(name)))
        if name in came:
            source, package = came[name]
            ask(source, _Request(path, never=package))
    return requests


def _diversions(host: Host, links: dict[bytes, bytes]) -> list[tuple[bytes, bytes, bytes]]:
    """(name in packages, name on disk, diverting package or `:` for the administrator) of each diversion."""
    try:
        lines = host.read(f"{_DPKG}/diversions").splitlines()
    except errors.VanishedError:
        return []
    triples = zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    return [(_canonical(source, links), _canonical(target, links), by) for source, target, by in triples]


def _dpkg_versions(host: Host, packages: set[bytes]) -> dict[bytes, str]:
    """Versions by what list files are called: `name`, or `name:architecture` where several may coexist."""
    names = {package.partition(b":")[0] for package in packages}
    found: dict[bytes, str] = {}
    if not names:
        return found
    for stanza in host.read(f"{_DPKG}/status").split(b"\n\n"):
        head, _, rest = stanza.lstrip(b"\n").partition(b"\n")
        name = head.removeprefix(b"Package: ")
        if name not in names:
            continue
        fields = dict(line.split(b": ", 1) for line in rest.split(b"\n") if b": " in line)
        if version := fields.get(b"Version"):
            for called in (name, name + b":" + fields.get(b"Architecture", b"")):
                found.setdefault(called, canonical.escape_bytes(version))
    return found


# -- rpm -----------------------------------------------------------------------------------------------------


def _rpm_owners(host: Host, wanted: dict[str, bytes], links: dict[bytes, bytes]) -> dict[str, Package]:
    if not any(host.exists(path) for path in _RPM_DATABASES) or not host.exists(_RPM_ARGV[0]):
        # A database without the program is an image that was built elsewhere: nobody here can say who owns
        # what.
        return {}
    try:
        listing = host.run_tool(_RPM_ARGV, bytes_max=_RPM_BYTES_MAX)
    except errors.ToolError:
        if host.root == "/":
            raise
        return {}
    requests: dict[bytes, list[str]] = {}
    for path, name in wanted.items():
        for spelling in _spellings(name, links):
            requests.setdefault(spelling, []).append(path)
    owner: dict[str, tuple[bytes, bytes]] = {}
    for block in listing.removeprefix(b"=").split(b"\n="):
        head, *names = block.split(b"\n")
        name, _, version = head.partition(b" ")
        for path in (path for hit in requests.keys() & names for path in requests[hit]):
            # The order of rpm's answer is that of its database; the smallest name is the same on every host.
            owner[path] = min(owner.get(path, (name, version)), (name, version))
    return {
        path: Package(
            manager="rpm", name=canonical.escape_bytes(name), version=canonical.escape_bytes(version) or None
        )
        for path, (name, version) in owner.items()
    }
