# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic libraries can programs of this host load, and whose are they?

Looked for where the dynamic linker looks, in the folders there where such libraries keep their modules, and
in /opt.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable

from agent import errors
from agent.elf import MalformedElfError, read_at_of, read_elf
from agent.host import Host, text
from agent.model.asset import Library
from agent.model.inventory import Entry
from agent.model.location import Location, Package
from agent.packages import owners
from agent.recognise import Recognised, recognise
from agent.scanners import Scan, Spec
from agent.walk import File, Walker

SPEC = Spec(
    detector=1,
    reads=("/etc/ld.so.conf", "/etc/ld-musl-*.path", "/lib*", "/usr/lib*", "/usr/local/lib*", "/opt/*/lib*"),
    needs=("CAP_DAC_READ_SEARCH",),
    cost="medium",
)

# A large desktop has 6,000 names in these folders.
_NAMES_MAX = 50_000
# Only a library without a build id is read whole; the largest of the table has 8 MiB.
_HASH_BYTES_MAX = 256 * 1024 * 1024
_CONFIGURATION_BYTES_MAX = 1024 * 1024
# ld.so.conf may include files that include files; circles are cut here.
_INCLUDES_MAX = 1000

# Compiled into the linkers of the distributions (ld.so(8)), or listed in their ld.so.conf as it comes.
_DEFAULTS = tuple(
    f"{base}/{name}" for base in ("", "/usr", "/usr/local") for name in ("lib", "lib64", "lib32")
)
# Folders in those: of each architecture, of modules that a library loads by itself, for newer processors.
_BESIDE = ("*-linux-*", "engines*", "ossl-modules", "nss", "pkcs11", "softhsm", "glibc-hwcaps")
# lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3
_DEPTH_MAX = 4


def scan(host: Host) -> Scan:
    """Look at every file in those folders once."""
    found = Scan()
    walker = Walker(host, found.skip, _NAMES_MAX)
    libraries: dict[str, tuple[File, Recognised, str | None]] = {}
    links: dict[str, list[str]] = {}
    seen: set[str] = set()

    def look(file: File) -> None:
        seen.add(file.path)
        try:
            library = _recognise(file, found)
        except MalformedElfError:
            found.skip("malformed", file.path)
        except errors.HostError as error:
            found.skip_error(error)
        else:
            if library is not None:
                libraries[file.path] = (file, *library)

    for folder in _folders(host, walker, found):
        for one in walker.walk(folder, depth_max=_DEPTH_MAX, leave=_leaves(folder)):
            if isinstance(one, File):
                look(one)
            else:
                links.setdefault(one.real, []).append(one.path)
    # A link may lead out of these folders, and the linker follows it.
    for real in sorted(links.keys() - seen):
        file = walker.file(real)
        if file is not None:
            look(file)
    packages = owners(host, libraries)
    found.entries = [
        _entry(host, file, library, sha256, links.get(path, []), packages.get(path))
        for path, (file, library, sha256) in libraries.items()
    ]
    return found


def _recognise(file: File, found: Scan) -> tuple[Recognised, str | None] | None:
    """The library and, where it has no build id, its SHA-256."""
    with file.open() as fd:
        elf = read_elf(read_at_of(fd, file.path))
        library = recognise(elf) if elf is not None else None
        if library is None:
            return None
        if library.build_id is not None:
            return library, None
        if file.stat.st_size > _HASH_BYTES_MAX:
            found.skip("too_large", file.path)
            return library, None
        return library, _sha256(fd, file.path)


def _sha256(fd: int, path: str) -> str:
    digest = hashlib.sha256()
    read_at = read_at_of(fd, path)
    at = 0
    while at < _HASH_BYTES_MAX and (chunk := read_at(at, 1 << 20)):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _entry(
    host: Host, file: File, library: Recognised, sha256: str | None, links: list[str], package: Package | None
) -> Entry:
    path = text(file.path)
    return Entry(
        key=path,
        asset=Library(
            family=library.family,
            name=library.name,
            soname=library.soname,
            version=library.version,
            build_id=library.build_id,
            sha256=sha256,
        ),
        where=Location(
            path=path,
            aliases=tuple(sorted(map(text, set(links)))),
            owner=host.user(file.stat.st_uid),
            group=host.group(file.stat.st_gid),
            mode=f"{stat.S_IMODE(file.stat.st_mode):04o}",
            package=package,
        ),
    )


# -- where the linker looks ----------------------------------------------------------------------------------


def _folders(host: Host, walker: Walker, found: Scan) -> list[str]:
    """Folders to look in, real paths; some may not be there."""
    named = [*_DEFAULTS, *_configured(host, found), *_musl(host, found)]
    for name in _names(host, walker, "/opt"):
        named += [f"/opt/{name}/lib", f"/opt/{name}/lib64"]
    real = (walker.resolve(folder) for folder in named)
    return list(dict.fromkeys(folder for folder in real if folder is not None))


def _leaves(root: str) -> Callable[[str], bool]:
    """Which folders below a root are left alone: all but those of _BESIDE."""

    def leave(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        is_beside = parent.endswith("/glibc-hwcaps") or any(fnmatch.fnmatchcase(name, one) for one in _BESIDE)
        return path != root and not is_beside

    return leave


def _configured(host: Host, found: Scan) -> list[str]:
    """Folders that ld.so.conf names, with the files that it includes (ldconfig(8))."""
    folders: list[str] = []
    todo = ["/etc/ld.so.conf"]
    read: set[str] = set()
    while todo and len(read) < _INCLUDES_MAX:
        path = todo.pop(0)
        if path in read:
            continue
        read.add(path)
        for line in _lines(host, path, found):
            word, _, rest = line.partition(" ")
            if word == "include":
                for pattern in rest.split():
                    todo += _included(host, os.path.join(os.path.dirname(path), pattern))
            elif line.startswith("/"):
                # `DIRECTORY=TYPE` is the older form.
                folders.append(line.partition("=")[0].rstrip())
    return folders


def _included(host: Host, pattern: str) -> list[str]:
    folder, _, name = pattern.rpartition("/")
    try:
        names = host.list_dir(folder)
    except errors.HostError:
        # ldconfig too takes a pattern that fits nothing.
        return []
    return [f"{folder}/{one}" for one in names if fnmatch.fnmatchcase(one, name)]


def _musl(host: Host, found: Scan) -> list[str]:
    """Folders that musl's linker was told of, separated by newlines or colons."""
    pages = [_lines(host, path, found) for path in _included(host, "/etc/ld-musl-*.path")]
    folders = (folder.strip() for page in pages for line in page for folder in line.split(":"))
    return [folder for folder in folders if folder.startswith("/")]


def _lines(host: Host, path: str, found: Scan) -> list[str]:
    try:
        page = host.read(path, _CONFIGURATION_BYTES_MAX)
    except errors.VanishedError:
        return []
    except errors.HostError as error:
        found.skip_error(error)
        return []
    lines = (line.partition("#")[0].strip() for line in os.fsdecode(page).splitlines())
    return [line.replace("\t", " ") for line in lines if line]


def _names(host: Host, walker: Walker, folder: str) -> list[str]:
    real = walker.resolve(folder)
    try:
        return host.list_dir(real) if real is not None else []
    except errors.HostError:
        return []
