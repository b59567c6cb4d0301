# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic libraries can programs of this host load, or have linked in, and whose are they?

Looked for where the dynamic linker looks and where languages keep their packages, and in the directories of
programs: `agent.disk.library_places` has the list, and what is left out. Each is known by its content:
`agent.readers.recognise`. Files are opened here and read elsewhere (`Host.parse`), many at a time.
"""

from __future__ import annotations

import stat
from contextlib import ExitStack
from typing import Self

from agent import errors
from agent.disk.library_places import folders
from agent.disk.packages import owners
from agent.disk.walk import File, Walker
from agent.guard.parsing import Opened
from agent.host import Host, text
from agent.model.asset import Library
from agent.model.inventory import Entry
from agent.model.location import Location, Package
from agent.readers.recognise import SEARCH_BYTES_MAX, Examined, Recognised, examine
from agent.scanners import Scan, Spec

SPEC = Spec(
    # 2: libraries linked into programs and modules, those of languages' packages, more families.
    detector=2,
    reads=(
        "/etc/ld.so.conf",
        "/etc/ld-musl-*.path",
        "/lib*",
        "/usr/lib*",
        "/usr/local/lib*",
        "/opt/*/lib*",
        "/usr/bin",
        "/usr/sbin",
        "/usr/libexec",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/opt/*/bin",
    ),
    needs=("CAP_DAC_READ_SEARCH",),
    cost="medium",
)

# A large desktop has 6,000 names in the linker's folders, a host with much Python 100,000 in its packages.
_NAMES_MAX = 250_000
# Only a library without a build id is read whole; the largest of the table has 8 MiB.
_HASH_BYTES_MAX = 256 * 1024 * 1024
# For all files together: some two seconds. All 2,600 ELF files of a developer's machine with three compilers
# and two clouds' tools take 1.7 GiB of it.
_SEARCH_BYTES_TOTAL = 4 * 1024 * 1024 * 1024
# Files that are open at the same time, waiting to be read together, and their size.
_BATCH_FILES = 64
_BATCH_BYTES = 256 * 1024 * 1024


def scan(host: Host) -> Scan:
    """Look at every file in those folders once."""
    found = Scan()
    walker = Walker(host, found.skip, _NAMES_MAX)
    links: dict[str, list[str]] = {}
    seen: set[str] = set()
    with _Reader(host, found) as reader:
        for folder in folders(host, walker, found.skip_error):
            for one in walker.walk(folder.path, depth_max=folder.depth_max, leave=folder.leave):
                if folder.wants is not None and not folder.wants(one.path):
                    continue
                if not isinstance(one, File):
                    links.setdefault(one.real, []).append(one.path)
                else:
                    seen.add(one.path)
                    reader.look(one)
        # A link may lead out of these folders, and the linker follows it.
        for real in sorted(links.keys() - seen):
            file = walker.file(real)
            if file is not None:
                reader.look(file)
        reader.flush()
    packages = owners(host, reader.libraries)
    found.entries = [
        _entry(host, file, library, sha256, links.get(path, []), packages.get(path))
        for path, (file, library, sha256) in reader.libraries.items()
    ]
    return found


class _Reader:
    """Has files read, many at a time, and keeps the libraries among them."""

    def __init__(self, host: Host, found: Scan) -> None:
        self.libraries: dict[str, tuple[File, Recognised, str | None]] = {}
        """With the SHA-256 of those that have no build id."""
        self._host = host
        self._found = found
        self._stack = ExitStack()
        self._waiting: list[tuple[File, int]] = []
        self._bytes_waiting = 0
        self._search_bytes = _SEARCH_BYTES_TOTAL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def look(self, file: File) -> None:
        """Have a file read with the next lot."""
        if not file.stat.st_size:
            return
        try:
            fd = self._stack.enter_context(file.open())
        except errors.HostError as error:
            self._found.skip_error(error)
            return
        self._waiting.append((file, fd))
        self._bytes_waiting += file.stat.st_size
        if len(self._waiting) >= _BATCH_FILES or self._bytes_waiting >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Have those read that wait."""
        waiting, self._waiting, self._bytes_waiting = self._waiting, [], 0
        files = [Opened(fd, file.path) for file, fd in waiting]
        search_bytes_max = min(self._search_bytes, SEARCH_BYTES_MAX)
        answers = self._host.parse(examine, files, search_bytes_max, _HASH_BYTES_MAX) if files else []
        self._stack.close()
        for (file, _), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, errors.HostError):
                self._found.skip_error(answer)
            else:
                self._settle(file, answer)

    def _settle(self, file: File, examined: Examined) -> None:
        self._search_bytes = max(0, self._search_bytes - examined.searched_bytes)
        if examined.is_cut:
            self._found.skip("budget", file.path)
        library = examined.library
        if library is None:
            return
        if library.build_id is None and examined.sha256 is None:
            self._found.skip("too_large", file.path)
        self.libraries[file.path] = (file, library, examined.sha256)


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
            embedded=library.embedded,
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
