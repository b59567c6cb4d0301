# SPDX-License-Identifier: Apache-2.0
"""What is one process in a profile: its libraries, its files, how it ended, and how is that printed? Pure.

What the keys mean is said in `agent.printing.profile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.host import Host
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.process_exit import ProcessExit
from agent.printing.command_line import masked
from agent.printing.events import redact_command
from agent.readers.file_kind import FileKind
from agent.redact import Redaction
from agent.survey.process import HeldFile, HeldLibrary
from agent.survey.subject import Subject

# Of one process. A backup or a search opens every file there is; ten thousand are a document of 2 MB.
FILES_MAX = 10_000

Mode = frozenset[str]
"""Of `read` and `write`, those for which a file was opened; empty where nobody knows."""
_MODES: dict[str, Mode] = {
    "O_RDONLY": frozenset({"read"}),
    "O_WRONLY": frozenset({"write"}),
    "O_RDWR": frozenset({"read", "write"}),
}


@dataclass
class File:
    """A file that it opened."""

    kind: FileKind
    access_count: int
    first_access: str
    last_access: str
    mode: Mode
    before_window: bool = False

    def merge(self, other: File) -> None:
        """Take in another access, or another file that a reader sees under the same path."""
        self.access_count += other.access_count
        self.first_access = min(self.first_access, other.first_access)
        self.last_access = max(self.last_access, other.last_access)
        self.mode |= other.mode
        self.before_window |= other.before_window
        if other.kind.kind is not None:
            self.kind = other.kind

    def document(self, path: str) -> dict[str, Any]:
        """As it is printed."""
        found: dict[str, Any] = {
            "path": path,
            "type": self.kind.file_type,
            "access_count": self.access_count,
            "first_access": self.first_access,
            "last_access": self.last_access,
            "mode": "-".join(sorted(self.mode)) or None,
        }
        if self.kind.kind is not None:
            found["kind"] = self.kind.kind
        if self.before_window:
            found["before_window"] = True
        return found


@dataclass
class Library:
    """A library that it has or had mapped."""

    held: HeldLibrary
    load_time: str
    is_read: bool
    """Whether its bytes were read; else its name is all that is known of it."""
    before_window: bool = False

    def document(self, redaction: Redaction) -> dict[str, Any]:
        """As it is printed."""
        held = self.held
        found: dict[str, Any] = {
            "name": held.name,
            "path": redaction.path(held.path),
            "load_time": self.load_time,
            "family": held.family,
        }
        if held.version is not None:
            found["version"] = held.version
        if held.deleted:
            found["deleted"] = True
        if self.before_window:
            found["before_window"] = True
        if not self.is_read:
            found["by"] = "name"
        return found


@dataclass
class Record:
    """One process and what is known of it."""

    subject: Subject
    started: str
    libraries: dict[tuple[str, bool], Library] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    events: int = 0
    failed_opens: int = 0
    files_omitted: int = 0
    exit: ProcessExit | None = None
    looked_at: str = ""
    """When it was looked at for what was there before; events from then back to the window's beginning tell
    of things that were found there too."""

    def hold(
        self, libraries: Iterable[HeldLibrary], files: Iterable[tuple[HeldFile, Mode]], began: str, when: str
    ) -> None:
        """What it had when it was looked at, `when`, soon after the window began."""
        self.looked_at = when
        for library in libraries:
            self.libraries[library.path, library.deleted] = Library(
                library, self.started, is_read=True, before_window=True
            )
        for held, mode in files:
            kind = FileKind(file_type=held.file_type, kind=held.file_kind)
            self.access(held.path, File(kind, 1, self.started, began, mode, before_window=True))

    def load(self, library: HeldLibrary, when: str, *, is_read: bool = True) -> None:
        """A library that it has. The first moment counts: seen again, it is no second one."""
        key = (library.path, library.deleted)
        known = self.libraries.get(key)
        if known is None or (known.before_window and when <= self.looked_at):
            self.libraries[key] = Library(library, when, is_read=is_read)

    def open(self, event: FileOpen, kind: FileKind) -> None:
        """A file that it tried to open."""
        if event.result < 0:
            self.failed_opens += event.count
            return
        known = self.files.get(event.file)
        if known is not None and known.before_window and event.timestamp <= self.looked_at:
            del self.files[event.file]
        mode = _MODES.get(event.flags.partition("|")[0], frozenset[str]())
        self.access(event.file, File(kind, event.count, event.timestamp, event.timestamp, mode))

    def access(self, path: str, one: File) -> None:
        """One more access."""
        known = self.files.get(path)
        if known is not None:
            known.merge(one)
        elif len(self.files) < FILES_MAX:
            self.files[path] = one
        else:
            self.files_omitted += 1


def printed(record: Record, host: Host, redaction: Redaction) -> dict[str, Any]:
    """One process and what it did."""
    files = list(_merged(record.files, redaction))
    # By when they were loaded, as people think of it.
    loaded = sorted(record.libraries.values(), key=lambda one: (one.load_time, one.held.path))
    libraries = [one.document(redaction) for one in loaded]
    statistics = {
        "total_events": record.events,
        "libraries_loaded": len(libraries),
        "files_accessed": len(files),
        "api_calls_made": 0,
        "failed_opens": record.failed_opens,
    }
    if record.files_omitted:
        statistics["accesses_omitted"] = record.files_omitted
    return {
        "process": _process(record, host, redaction),
        "libraries": libraries,
        "files_accessed": files,
        "api_calls": [],
        "statistics": statistics,
    }


def _process(record: Record, host: Host, redaction: Redaction) -> dict[str, Any]:
    subject = record.subject
    found: dict[str, Any] = {
        "pid": subject.pid,
        "ppid": subject.parent,
        "name": subject.name,
        "exe": None if subject.exe is None else redaction.path(subject.exe),
        "cmdline": _command_line(subject, redaction),
        "uid": subject.uid,
        "gid": subject.gid,
        "running_as": redaction.name(host.user(subject.uid)),
        "start_time": record.started,
    }
    if record.exit is not None:
        found |= {"exit_time": record.exit.timestamp, "exit_code": record.exit.exit_code}
        if record.exit.signal is not None:
            found["exit_signal"] = record.exit.signal
    return found


def _command_line(subject: Subject, redaction: Redaction) -> str | None:
    """Its arguments for a reader, without secrets."""
    if subject.argv is None:
        return None
    return redact_command(masked(subject.argv, is_cut=subject.is_argv_cut), redaction)


def _merged(files: Mapping[str, File], redaction: Redaction) -> Iterator[dict[str, Any]]:
    """Files by the paths that a reader sees, each once, by path: two users' files may get one."""
    by_path: dict[str, File] = {}
    for path, one in files.items():
        shown = redaction.path(path)
        if shown in by_path:
            by_path[shown].merge(one)
        else:
            by_path[shown] = File(**vars(one))
    for path, one in sorted(by_path.items()):
        yield one.document(path)
