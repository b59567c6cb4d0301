# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic library is a file that a process has just loaded? Its content tells, once per file.

The kernel half reports every file that is mapped as code. What is found to be none of ours it is told to
leave out from then on, so that soon nearly nothing is reported but what is wanted. A process may have ended
before anybody looks: then its file is looked for by its path, and where that is another file by now, or in a
container that has gone, the name is all there is. That is said. Where the name says nothing either, it may
have been anything: such loads are counted.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from agent import errors
from agent.guard.parsing import Opened
from agent.host import Host
from agent.kernel.probes.lib_load import FileIdentity, LibLoad
from agent.model import canonical
from agent.model.inventory import SkipReason
from agent.readers.library_table import BY_STEM, SONAME
from agent.readers.recognise import Recognised, recognise_file
from agent.survey.natures import Natures, of_unlisted

# As many as the kernel half remembers (`lib_load_boring`): beyond it, it reports one anew.
KNOWN_MAX = 8192
# To read a file takes 0.1 ms, or some 100 ms of one that may have a library linked in. At first there are
# dozens of new files; whoever makes new ones without end shall not keep a core busy with that.
_LOOKING_S = 5.0
_LOOKING_SHARE = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# How the kernel names what is in memory alone, on a mount that no table lists; see `agent.survey.mapped`.
_MEMORY = ("/memfd:", "/SYSV", "/anon_hugepage")
# Why a file was not looked at, for people; of what is not listed, the kernel or the disk refused.
_WORDS: dict[SkipReason, str] = {
    "vanished": "the file had gone",
    "denied": "the file is closed to us",
    "budget": "too many new files at once",
    "network_fs": "the file system is not known to be local",
    "crashed": "the file ended its reader",
}


class _BusyError(errors.UnreadableError):
    """There is no time for it now."""

    skip: SkipReason = "budget"


class _ForeignError(errors.UnreadableError):
    """Its server may be gone."""

    skip: SkipReason = "network_fs"


@dataclass(frozen=True, kw_only=True)
class LoadedLibrary(Recognised):
    """A cryptographic library that a process has loaded."""

    by: Literal["content", "name"]
    """Whether its bytes were read, or its file's name is all that is known of it."""


class Loaded:
    """What is known of the files of one stream of loads. Not for several threads."""

    def __init__(self, host: Host, disregard: Callable[[FileIdentity], None]) -> None:
        """Make ready.

        Args:
            host: the running host; its parser reads the files.
            disregard: told of each file that is none of cryptography: `Window.disregard`.
        """
        self._host = host
        self._disregard = disregard
        self._natures = Natures(host)
        self._known: dict[FileIdentity, LoadedLibrary | None] = {}
        self._missed: Counter[str] = Counter()
        self._left_s = _LOOKING_S
        self._filled_s = time.monotonic()

    def of(self, event: LibLoad) -> LoadedLibrary | None:
        """The library that an event tells of; None for a file that is none of cryptography.

        Also None for one that could be anything, as nothing is known of it: see `unrecognised`.
        """
        identity = event.identity
        if identity in self._known:
            found = self._known[identity]
        else:
            try:
                found = self._read(event)
            except errors.HostError as error:
                # Not remembered: another process may still show the file.
                named = _by_name(event)
                if named is None:
                    self._missed[_WORDS.get(error.skip, "the file could not be read")] += 1
                return named
            if len(self._known) >= KNOWN_MAX:
                for old in list(islice(self._known, KNOWN_MAX // 4)):
                    del self._known[old]
            self._known[identity] = found
        if found is None:
            # Also when it is known here: the kernel half may have forgotten.
            self._disregard(identity)
        return found

    def unrecognised(self) -> tuple[str, ...]:
        """How many loads are of files that nothing is known of, and why: one sentence for each reason."""
        return tuple(
            f"{count} load{'' if count == 1 else 's'} not recognised: {reason}"
            for reason, count in sorted(self._missed.items())
        )

    def _read(self, event: LibLoad) -> LoadedLibrary | None:
        """What the file's bytes say. Raises HostError when they cannot be read."""
        begin_s = time.monotonic()
        self._left_s = min(_LOOKING_S, self._left_s + (begin_s - self._filled_s) * _LOOKING_SHARE)
        self._filled_s = begin_s
        if self._left_s <= 0:
            raise _BusyError(event.library, "too many files at once")
        try:
            self._require_local(event)
            fd = self._open(event)
            try:
                answer = self._host.parse(recognise_file, [Opened(fd, event.library)])[0]
            finally:
                os.close(fd)
        finally:
            self._left_s -= time.monotonic() - begin_s
        if isinstance(answer, errors.MalformedError):
            return None
        if isinstance(answer, errors.HostError):
            raise answer
        return None if answer is None else LoadedLibrary(**vars(answer), by="content")

    def _require_local(self, event: LibLoad) -> None:
        """A network file system is never touched: its server may be gone. Raises HostError."""
        device = event.identity.major_minor
        try:
            nature = self._natures.of_device(event.pid, device)
        except errors.VanishedError:
            nature = None
        is_memory = event.deleted and event.library.startswith(_MEMORY)
        if nature is None and not is_memory:
            nature = of_unlisted(device)
        if nature == "foreign":
            raise _ForeignError(event.library, "on a file system that is not known to be local")

    def _open(self, event: LibLoad) -> int:
        """A descriptor of the very file that was mapped. Raises HostError."""
        end = event.address + -(-event.length // _PAGE_BYTES) * _PAGE_BYTES
        path = os.fsdecode(canonical.unescape_text(event.library))
        mapped = f"/proc/{event.pid}/map_files/{event.address:x}-{end:x}"
        places = [mapped]
        if path.startswith("/") and not event.deleted:
            # The path begins where mounts do, which is our root or that of the process's container.
            places += [path, f"/proc/{event.pid}/root{path}"]
        failure: errors.HostError | None = None
        for place in places:
            try:
                fd = self._host.open_regular(place)
            except errors.HostError as error:
                failure = failure or error
                continue
            # What is mapped there is the file, though it may have been deleted since, which changes it.
            if fd is not None and _is_it(fd, event.identity, is_changed_too=place == mapped):
                return fd
            if fd is not None:
                os.close(fd)
        raise failure or errors.VanishedError(path, "another file has taken its name")


def _is_it(fd: int, identity: FileIdentity, *, is_changed_too: bool) -> bool:
    """Whether an open file is the one of that identity.

    The device is not compared: some file systems show another one than they have (btrfs, overlay).
    """
    status = os.fstat(fd)
    return status.st_ino == identity.inode and (is_changed_too or status.st_ctime_ns == identity.changed_ns)


def _by_name(event: LibLoad) -> LoadedLibrary | None:
    """What the file's name promises."""
    name = canonical.unescape_text(event.library).rpartition(b"/")[2]
    match = SONAME.fullmatch(name)
    if match is None:
        return None
    for row in BY_STEM.get(match["stem"], ()):
        # Forks and wrappers share names with what they stand for; the name does not tell which it is.
        if not row.is_fork and not row.needs and int(match["major"] or 0) >= row.major_min:
            return LoadedLibrary(
                family=row.family, name=row.name, soname=None, version=None, build_id=None, by="name"
            )
    return None
