# SPDX-License-Identifier: Apache-2.0
"""X.509 certificates and trust stores in files: where they are, what they say, which package they came with.

Every file of `agent.disk.places` is looked into, whatever its name: PEM blocks in text, DER by its frame. An
entry's key is the file's real path, or `path#subject` where a file holds several certificates. A trust store
is one entry whatever it holds; of its members those get entries of their own that are no roots, and those
that its distribution does not ship and that no other file of this host holds. So a local root that
update-ca-certificates installs is one new entry (its own file, with the links to it as aliases) and one
changed entry (the bundle, with the root's digest in `added`).
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec

from agent import errors
from agent.disk import packages, places
from agent.disk.walk import File, Link, Walker
from agent.guard.parsing import Opened
from agent.host import Host, text
from agent.model import canonical
from agent.model.asset import Certificate, TrustStore
from agent.model.inventory import Entry, SkipReason
from agent.model.location import Location, Package
from agent.readers import truststore
from agent.readers.certificate_files import FILE_BYTES_MAX, CertificateFile, read_certificates, read_p11_kit
from agent.scanners import Scan, Spec

SPEC = Spec(
    detector=1,
    reads=(
        *(place.path for place in places.PLACES),
        "homes of human users",
        "trust stores of Python packages",
    ),
    needs=("CAP_DAC_READ_SEARCH",),
    cost="medium",
)

# Budgets. They end a walk over an unusual host, always at the same file. Measured on a Debian host with
# development tools: 4,400 names, 2.5 MiB of text and 144 distinct certificates, 0.13 s of CPU; all of the
# names there may be cost about 3 s.
_NAMES_MAX = 200_000
_TEXT_BYTES_MAX = 256 * 1024 * 1024
_CERTIFICATES_MAX = 10_000
# All entries together. A part may have 8 MiB (limits.PART_BYTES_MAX); hiding people makes entries a little
# longer.
_ENTRIES_BYTES_MAX = 6 * 1024 * 1024
_ALIASES_MAX = 200
# The smallest certificate with a key and a signature (Ed25519, no names) has 180 bytes.
_FILE_BYTES_MIN = 128
# Files that are open at a time, to be read together, and their bytes. The budgets are shared out anew after
# each lot, so the bytes are also what may be read beyond them.
_OPEN_MAX = 64
_OPEN_BYTES_MAX = 16 * 1024 * 1024


def scan(host: Host) -> Scan:
    """Look into every file of every place."""
    found = Scan()
    search = _Search(host, found)
    search.run()
    telling = _Telling(host, found, search.files, packages.owners(host, search.files))
    spent = 0
    for entry in _unique(telling.entries()):
        spent += len(canonical.encode(entry))
        if spent > _ENTRIES_BYTES_MAX:
            found.skip("budget", entry.where.path or entry.key)
        else:
            found.entries.append(entry)
    return found


# -- looking -------------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """A file that holds certificates."""

    file: File
    certificates: list[Certificate]
    """Each once, sorted by digest, so that no order of blocks shows."""
    aliases: set[str] = field(default_factory=set)


class _Search:
    """One look at all places. The walk and the budgets are shared by all of them."""

    def __init__(self, host: Host, found: Scan) -> None:
        self.files: dict[str, _Found] = {}
        """By real path, in the order of the places."""
        self._host = host
        self._found = found
        self._walker = Walker(host, found.skip, _NAMES_MAX)
        self._links: dict[str, list[str]] = {}
        self._followed: set[str] = set()
        self._trees = places.python_trees(host, self._walker.resolve)
        self._counted: set[tuple[str, str]] = set()
        self._text_left = _TEXT_BYTES_MAX
        self._distinct: dict[str, Certificate] = {}
        self._open = ExitStack()
        self._asked: list[tuple[File, Opened]] = []
        self._asked_bytes = 0

    def run(self) -> None:
        """Fill `files`."""
        with self._open:
            for place in places.places(self._host):
                self._walk(place)
                self._follow()
        for real in self._links.keys() & self.files.keys():
            self.files[real].aliases.update(self._links[real])

    def _walk(self, place: places.Place) -> None:
        with closing(self._walker.walk(place.path, depth_max=place.depth_max, leave=self._leave)) as walk:
            for item in walk:
                if isinstance(item, Link):
                    self._links.setdefault(item.real, []).append(item.path)
                elif item.path not in self.files:
                    self._look(item)
        self._read()

    def _follow(self) -> None:
        """Look where links lead, even outside the places: whoever links to a file uses it.

        After each place, so that what the links of /etc lead to is not left to what homes leave of the
        budgets.
        """
        for tree in self._trees:
            for bundle in places.PYTHON_BUNDLES:
                self._look_up(f"{tree}/{bundle}")
        self._trees.clear()
        self._read()
        for real in sorted(self._links.keys() - self._followed):
            self._followed.add(real)
            if real not in self.files and (file := self._walker.file(real)) is not None:
                self._look(file)
        self._read()

    def _leave(self, path: str) -> bool:
        if path.rpartition("/")[2] in places.PYTHON_TREES:
            self._trees.append(path)
        return places.is_left_out(path)

    def _look_up(self, path: str) -> None:
        real = self._walker.resolve(path)
        if real is not None and real != path:
            self._links.setdefault(real, []).append(path)
        elif real is not None and real not in self.files and (file := self._walker.file(real)) is not None:
            self._look(file)

    def _look(self, file: File) -> None:
        """Open a file, to be read with the next ones."""
        if file.stat.st_size < _FILE_BYTES_MIN:
            return
        try:
            fd = self._open.enter_context(file.open())
        except errors.HostError as error:
            self._count(error.skip, file)
            return
        self._asked.append((file, Opened(fd, file.path)))
        self._asked_bytes += min(file.stat.st_size, FILE_BYTES_MAX)
        if len(self._asked) >= _OPEN_MAX or self._asked_bytes >= _OPEN_BYTES_MAX:
            self._read()

    def _read(self) -> None:
        """Have the files read that were opened, and close them."""
        answers = self._host.parse(
            read_certificates,
            [opened for _, opened in self._asked],
            max(self._text_left, 0),
            _CERTIFICATES_MAX - len(self._distinct),
        )
        for (file, _), answer in zip(self._asked, answers, strict=True):
            if isinstance(answer, errors.HostError):
                self._count(answer.skip, file)
            else:
                self._take(file, answer)
        self._open.close()
        self._asked.clear()
        self._asked_bytes = 0

    def _take(self, file: File, answer: CertificateFile) -> None:
        """One file's answer. What was left of the budgets when it was asked for, others may have taken."""
        if answer.searched_bytes and file.stat.st_size > self._text_left:
            self._count("budget", file)
            return
        self._text_left -= answer.searched_bytes
        for reason in answer.skipped:
            self._count(reason, file)
        certificates = []
        for certificate in answer.certificates:
            if certificate.sha256 in self._distinct or len(self._distinct) < _CERTIFICATES_MAX:
                # One that stands in many places is held once.
                certificates.append(self._distinct.setdefault(certificate.sha256, certificate))
            else:
                self._count("budget", file)
        if certificates:
            certificates.sort(key=attrgetter("sha256"))
            self.files[file.path] = _Found(file, certificates)

    def _count(self, reason: SkipReason, file: File) -> None:
        # Once for each file: links may lead to it again.
        if (reason, file.path) not in self._counted:
            self._counted.add((reason, file.path))
            self._found.skip(reason, file.path)


# -- telling -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Telling:
    """What was found, as entries."""

    host: Host
    found: Scan
    files: dict[str, _Found]
    owners: dict[str, Package]

    def entries(self) -> Iterator[Entry]:
        """In the order of the files."""
        stores = {path for path, file in self.files.items() if truststore.is_store(path, file.certificates)}
        alone = {
            certificate.sha256
            for path, file in self.files.items()
            if path not in stores
            for certificate in file.certificates
        }
        for path, file in self.files.items():
            where = self._where(path, file)
            if path not in stores:
                yield from _named(where, file.certificates, several=len(file.certificates) > 1)
                continue
            store, where = self._store(path, file, where)
            yield Entry(key=where.path or path, asset=store, where=where)
            added = {sha256 for sha256 in store.added if sha256 not in alone}
            for certificate in file.certificates:
                if certificate.sha256 in added or not truststore.is_anchor(certificate):
                    yield from _named(where, [certificate], several=True)

    def _where(self, path: str, file: _Found) -> Location:
        status = file.file.stat
        aliases = sorted(map(text, file.aliases))
        if len(aliases) > _ALIASES_MAX:
            self.found.skip("budget", path)
        return Location(
            path=text(path),
            aliases=tuple(aliases[:_ALIASES_MAX]),
            owner=self.host.user(status.st_uid),
            group=self.host.group(status.st_gid),
            mode=f"{stat.S_IMODE(status.st_mode):04o}",
            package=self.owners.get(path),
        )

    def _store(self, path: str, file: _Found, where: Location) -> tuple[TrustStore, Location]:
        members = [certificate.sha256 for certificate in file.certificates]
        reference = self._reference(path)
        if reference is None:
            return truststore.trust_store(members), where
        name, package, shipped = reference
        store = truststore.trust_store(members, name, shipped)
        # No package lists the bundle (or lists it whatever is in it), because a tool of the package wrote it.
        # As long as it is what the package's files alone make, it is the same on every host and belongs to
        # the package's part.
        is_vendors = not store.added and not store.removed
        return store, msgspec.structs.replace(where, package=package if is_vendors else None)

    def _reference(self, path: str) -> tuple[str, Package | None, frozenset[str]] | None:
        """What a known bundle is made from: its name, its package, and the digests of what it ships."""
        bundle = truststore.BUNDLES.get(path)
        if bundle is None:
            return None
        for source in bundle.sources:
            if source.endswith(".p11-kit"):
                if source in self.files and (shipped := self._shipped(source, bundle.purpose)) is not None:
                    package = self.owners.get(source)
                    return package.name if package else text(source), package, shipped
                continue
            held = [held for held in self.files if held.startswith(f"{source}/")]
            # An administrator may have put files there too; where no package is known at all, every file is
            # taken.
            owned = [held for held in held if held in self.owners] or held
            if owned:
                shipped = frozenset(
                    certificate.sha256 for held in owned for certificate in self.files[held].certificates
                )
                package = _most([self.owners[held] for held in owned if held in self.owners])
                return package.name if package else text(source), package, shipped
        return None

    def _shipped(self, source: str, purpose: str | None) -> frozenset[str] | None:
        """What a file in p11-kit's format ships; None where it cannot be read any more."""
        try:
            with self.host.open(source) as fd:
                answer = self.host.parse(read_p11_kit, [Opened(fd, source)], purpose)[0]
            if not isinstance(answer, errors.HostError):
                return answer
        except errors.HostError as error:
            answer = error
        self.found.skip_error(answer)
        return None


def _most(found: list[Package]) -> Package | None:
    """The package that owns most of several files; the first by name among equals."""
    counts = Counter((package.name, package.version or "", package.manager) for package in found)
    if not counts:
        return None
    name, version, manager = min(counts, key=lambda identity: (-counts[identity], identity))
    return Package(manager=manager, name=name, version=version or None)


def _named(where: Location, certificates: list[Certificate], *, several: bool) -> Iterator[Entry]:
    """Entries of a file's certificates, by its path alone or, where it has several, by path and subject."""
    path = where.path or ""
    subjects = Counter(certificate.subject for certificate in certificates)
    for certificate in certificates:
        key = f"{path}#{certificate.subject}" if several else path
        if subjects[certificate.subject] > 1:
            key += f"#{certificate.sha256[:12]}"
        yield Entry(key=key, asset=certificate, where=where)


def _unique(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same with numbers where keys meet, as only names chosen for that can make them."""
    taken: set[str] = set()
    for entry in entries:
        key, number = entry.key, 1
        while key in taken:
            number += 1
            key = f"{entry.key} ({number})"
        taken.add(key)
        yield entry if number == 1 else msgspec.structs.replace(entry, key=key)
