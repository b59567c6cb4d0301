# SPDX-License-Identifier: Apache-2.0
"""What did one process do with cryptography in a window of time, and what had it done before? Pure.

The document has the keys that crypto-tracer's users read. What they mean here, where there was a choice:

- What was there before the window began counts: libraries that are mapped and files that are held open. When
  they were loaded and opened, nobody has seen. Readers want a moment at `load_time` and `first_access`: it is
  the earliest possible, the start of the process, and `before_window` is true. Such a file was last accessed
  when it was seen open, and that it is open counts as one access.
- `files_accessed` holds what was opened. An open that failed accessed nothing; `statistics.failed_opens` has
  their number.
- `statistics` counts what it says: `total_events` those events about this process that were seen in the
  window, `libraries_loaded` and `files_accessed` the entries of the two lists.
- `api_calls` is empty and `api_calls_made` 0: calls of a library's functions are not watched. The keys stay
  for scripts that ask for them.
- With children, each has a profile of its own below `children`, and what they did is only there: it stays
  told apart who read the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.host import Host
from agent.kernel.probes import DELETED, Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import LibLoad
from agent.kernel.probes.process_exec import ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.printing.loaded import LoadedLibrary
from agent.printing.profile_record import Mode, Record, printed
from agent.readers.file_kind import FileKind
from agent.redact import Redaction
from agent.survey.process import HeldFile, HeldLibrary
from agent.survey.subject import Subject, ticks

PROFILE_VERSION = "1.0"
# Of processes that it starts: a busy shell script has hundreds, a fork bomb any number.
CHILDREN_MAX = 500


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How far it was seen.

    Attributes:
        reasons: why less than everything was seen; none where nothing is known to be missing.
        lost_events: events of the window that did not reach us, whosever they were.
        methods: how each kind of event was watched, by its name.
    """

    reasons: tuple[str, ...] = ()
    lost_events: int = 0
    methods: Mapping[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.reasons and not self.lost_events

    def document(self) -> dict[str, Any]:
        """As it is printed."""
        found: dict[str, Any] = {"status": "complete" if self.is_complete else "partial"}
        if self.reasons:
            found["reason"] = "; ".join(self.reasons)
        return found | {"lost_events": self.lost_events, "methods": dict(self.methods)}


class Profile:
    """A profile in the making."""

    def __init__(
        self, subject: Subject, *, began: str, moment: Callable[[int], str], is_following: bool
    ) -> None:
        """Begin.

        Args:
            subject: the process.
            began: when the window began, a timestamp.
            moment: the timestamp of a number of ticks since boot.
            is_following: whether other processes that are told of are its descendants.
        """
        self._began = began
        self._moment = moment
        self._is_following = is_following
        self._main = Record(subject, moment(subject.start_ticks))
        self._children: list[Record] = []
        # The latest process of each number: nobody tells of an earlier one any more.
        self._by_pid: dict[int, Record] = {}
        self._omitted: set[tuple[int, int]] = set()

    @property
    def has_ended(self) -> bool:
        """Whether the process itself was seen to end."""
        return self._main.exit is not None

    @property
    def subjects(self) -> list[Subject]:
        """The process and, where they are followed, its descendants that have not been seen to end."""
        return [one.subject for one in (self._main, *self._children) if one.exit is None]

    def add_child(self, subject: Subject) -> None:
        """A descendant that no event has told of."""
        if self._is_following and self._record_of(subject) is None:
            self._add(subject)

    def refresh(self, subject: Subject) -> None:
        """What the process is now: it may have become another program, or taken another name."""
        record = self._record_of(subject)
        if record is not None:
            record.subject = subject

    def hold(
        self,
        subject: Subject,
        libraries: Iterable[HeldLibrary],
        files: Iterable[tuple[HeldFile, Mode]],
        when: str,
    ) -> None:
        """What a process had mapped and open when it was looked at, soon after the window began.

        To be told before any event. An event from between the two moments tells of what was found, too, and
        knows better when it came.
        """
        record = self._record_of(subject)
        if record is not None:
            record.hold(libraries, files, self._began, when)

    def find(self, subject: Subject, libraries: Iterable[HeldLibrary], when: str) -> None:
        """What a process has mapped at a later moment: what was loaded and not told of."""
        record = self._record_of(subject)
        if record is not None:
            for library in libraries:
                record.load(library, when)

    def see(
        self,
        event: Event,
        *,
        library: Callable[[LibLoad], LoadedLibrary | None],
        file_kind: Callable[[FileOpen], FileKind | None],
    ) -> None:
        """An event of the window.

        Args:
            library: which one was loaded; None for a file that is none of cryptography.
            file_kind: what was opened; None for a file that does not count.
        """
        record = self._record(event.pid, event.start_ns) or self._adopted(event)
        if record is None:
            return
        if isinstance(event, FileOpen):
            kind = file_kind(event)
            if kind is None:
                return
            record.open(event, kind)
        elif isinstance(event, LibLoad):
            loaded = library(event)
            if loaded is None:
                return
            held = HeldLibrary(
                path=event.library,
                deleted=event.deleted,
                family=loaded.family,
                name=loaded.name,
                version=loaded.version,
            )
            record.load(held, event.timestamp, is_read=loaded.by == "content")
        elif isinstance(event, ProcessExec):
            record.subject = _become(record.subject, event)
        elif isinstance(event, ProcessExit):
            record.exit = event
        record.events += event.count

    def document(
        self, host: Host, redaction: Redaction, *, generated: str, duration_s: float, coverage: Coverage
    ) -> dict[str, Any]:
        """The profile as it is printed.

        Args:
            host: knows the names of users.
            redaction: what the reader may not see.
            generated: when the window ended, a timestamp.
            duration_s: how long it was; told in whole seconds, as scripts know it.
        """
        found = {
            "profile_version": PROFILE_VERSION,
            "generated_at": generated,
            "duration_seconds": round(duration_s),
            **printed(self._main, host, redaction),
        }
        if self._is_following:
            children = sorted(self._children, key=lambda one: (one.started, one.subject.pid))
            found["children"] = [printed(one, host, redaction) for one in children]
            if self._omitted:
                found["children_omitted"] = len(self._omitted)
        return found | {"coverage": coverage.document()}

    # -- whose ---------------------------------------------------------------------------------------------

    def _add(self, subject: Subject) -> Record | None:
        if len(self._children) >= CHILDREN_MAX:
            self._omitted.add((subject.pid, subject.start_ticks))
            return None
        record = Record(subject, self._moment(subject.start_ticks))
        self._children.append(record)
        self._by_pid[subject.pid] = record
        return record

    def _adopted(self, event: Event) -> Record | None:
        """A new record for a descendant's first event; None where descendants are not followed."""
        if not self._is_following or event.pid == self._main.subject.pid:
            return None
        return self._add(
            Subject(
                pid=event.pid,
                start_ticks=ticks(event.start_ns),
                parent=event.ppid if isinstance(event, ProcessExec | ProcessExit) else 0,
                name=event.process,
                exe=None if event.exe is None else event.exe.removesuffix(DELETED),
                argv=None,
                is_argv_cut=False,
                uid=event.uid,
                gid=event.gid,
            )
        )

    def _record_of(self, subject: Subject) -> Record | None:
        record = self._record(subject.pid, 0)
        return record if record and record.subject.start_ticks == subject.start_ticks else None

    def _record(self, pid: int, start_ns: int) -> Record | None:
        """The process with that number and start; None where there is no place for it."""
        if self._main.subject.is_same(pid, start_ns):
            return self._main
        record = self._by_pid.get(pid)
        return record if record is not None and record.subject.is_same(pid, start_ns) else None


def _become(subject: Subject, event: ProcessExec) -> Subject:
    """The process as another program."""
    return replace(
        subject,
        parent=event.ppid,
        name=event.process,
        exe=None if event.exe is None else event.exe.removesuffix(DELETED),
        argv=tuple(event.argv),
        is_argv_cut=event.truncated,
    )
