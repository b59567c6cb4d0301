# SPDX-License-Identifier: Apache-2.0
"""In which directories may crypto libraries stand, and files that have one linked in?

Three kinds of place. Where the dynamic linker looks, every file is looked at, with the folders there in which
such libraries keep their modules. Where languages keep their packages, everything that is called a library: a
wheel or an npm package brings its own. Where programs stand, every program. Not looked into: homes, /srv,
/var, virtual environments, containers, snaps, and the rest of the disk; a process that runs from there shows
in the section `processes` all the same.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent import errors
from agent.disk.places import python_trees
from agent.disk.walk import ANY_DEPTH, Walker
from agent.host import Host

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
_LINKER_DEPTH = 4
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec")
_PACKAGES = (
    "/usr/lib/jvm",
    "/usr/lib/node_modules",
    "/usr/lib64/node_modules",
    "/usr/local/lib/node_modules",
    "/usr/lib/nodejs",
    "/usr/share/nodejs",
)
# `_rust.abi3.so`, `libcrypto-3a1b2c4d.so.3`, `libjvm.so`, `better_sqlite3.node`. Only here names decide: one
# file in forty of such packages is a library, and nothing there loads one by another name.
_LIBRARY = re.compile(r".*\.(?:so(?:\..*)?|node)", re.DOTALL)

SkipError = Callable[[errors.HostError], None]


@dataclass(frozen=True)
class Folder:
    """One directory to look into."""

    path: str
    """Real: no link leads to it."""
    depth_max: int
    leave: Callable[[str], bool] | None = None
    """Called with the path of each directory in it; True where it is left alone."""
    wants: Callable[[str], bool] | None = None
    """Called with the path of each file; None where every file is looked at."""


def folders(host: Host, walker: Walker, skip_error: SkipError) -> Iterator[Folder]:
    """Every directory to look into, there or not, the most important first.

    Args:
        host: the host.
        walker: resolves links.
        skip_error: told of a configuration of the linker that cannot be read.
    """
    seen: set[str] = set()

    def real(paths: list[str]) -> Iterator[str]:
        for path in paths:
            folder = walker.resolve(path)
            if folder is not None and folder not in seen:
                seen.add(folder)
                yield folder

    opt = _names(host, walker, "/opt")
    linker = [*_DEFAULTS, *_configured(host, skip_error), *_musl(host, skip_error)]
    linker += [f"/opt/{name}/{lib}" for name in opt for lib in ("lib", "lib64")]
    for path in real(linker):
        yield Folder(path, _LINKER_DEPTH, leave=_leaves(path))
    for path in real([*_PROGRAMS, *(f"/opt/{name}/bin" for name in opt)]):
        yield Folder(path, 1)
    for path in real([*python_trees(host, walker.resolve), *_PACKAGES]):
        yield Folder(path, ANY_DEPTH, wants=_is_called_a_library)


def _is_called_a_library(path: str) -> bool:
    return _LIBRARY.fullmatch(path.rpartition("/")[2]) is not None


def _leaves(root: str) -> Callable[[str], bool]:
    """Which folders below a root are left alone: all but those of _BESIDE."""

    def leave(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        is_beside = parent.endswith("/glibc-hwcaps") or any(fnmatch.fnmatchcase(name, one) for one in _BESIDE)
        return path != root and not is_beside

    return leave


def _configured(host: Host, skip_error: SkipError) -> list[str]:
    """Folders that ld.so.conf names, with the files that it includes (ldconfig(8))."""
    folders: list[str] = []
    todo = ["/etc/ld.so.conf"]
    read: set[str] = set()
    while todo and len(read) < _INCLUDES_MAX:
        path = todo.pop(0)
        if path in read:
            continue
        read.add(path)
        for line in _lines(host, path, skip_error):
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


def _musl(host: Host, skip_error: SkipError) -> list[str]:
    """Folders that musl's linker was told of, separated by newlines or colons."""
    pages = [_lines(host, path, skip_error) for path in _included(host, "/etc/ld-musl-*.path")]
    folders = (folder.strip() for page in pages for line in page for folder in line.split(":"))
    return [folder for folder in folders if folder.startswith("/")]


def _lines(host: Host, path: str, skip_error: SkipError) -> list[str]:
    try:
        page = host.read(path, _CONFIGURATION_BYTES_MAX)
    except errors.VanishedError:
        return []
    except errors.HostError as error:
        skip_error(error)
        return []
    lines = (line.partition("#")[0].strip() for line in os.fsdecode(page).splitlines())
    return [line.replace("\t", " ") for line in lines if line]


def _names(host: Host, walker: Walker, folder: str) -> list[str]:
    real = walker.resolve(folder)
    try:
        return host.list_dir(real) if real is not None else []
    except errors.HostError:
        return []
