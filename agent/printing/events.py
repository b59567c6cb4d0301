# SPDX-License-Identifier: Apache-2.0
"""How does an event of the kernel look to who reads it? The keys that users' scripts know, then ours.

crypto-tracer's users read events with jq, Python and SIEMs: its keys come first, with its types, and are
always there. Redaction comes last, after every filter was asked about the truth.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Callable
from typing import Any

import msgspec

from agent.host import Host
from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import LibLoad
from agent.kernel.probes.process_exec import ProcessExec
from agent.printing.command_line import masked
from agent.printing.loaded import LoadedLibrary
from agent.procfs.cgroup import Placement
from agent.readers.file_kind import FileKind
from agent.redact import Redaction

_ALWAYS = ("event_type", "timestamp", "pid", "uid", "process", "exe")
# Keys of crypto-tracer's documents beyond those, by event type; what is not known of them is null.
_KNOWN = {
    "file_open": ("file", "file_type", "flags", "result"),
    "lib_load": ("library", "library_name"),
    "process_exec": ("ppid", "cmdline"),
    "process_exit": ("exit_code",),
}
# How the kernel half tells processes and equal events apart, and what is printed in another form: readers
# join by pid, exe and time.
_INTERNAL = {"start_ns", "cgroup_id", "mount_ns", "argv", "identity", "address", "length"}
_PATHS = ("exe", "file", "file_raw", "library")
# In a command line a path ends where a shell, a list of paths or a form NAME=VALUE ends it.
_PATH_IN_WORDS = re.compile(r"/[^\s:;,='\"`|&<>(){}\[\]]*")


@functools.lru_cache
def _shape(kind: type[Event]) -> tuple[str, tuple[tuple[str, object], ...]]:
    """Its type's word, and the fields that are printed with their defaults, which are left out."""
    fields = tuple(
        (field.name, field.default) for field in msgspec.structs.fields(kind) if field.name not in _INTERNAL
    )
    return str(kind.__struct_config__.tag), fields


def types_with(key: str) -> set[str]:
    """Types of events that are about such a thing."""
    return {name for name, keys in _KNOWN.items() if key in keys}


class Printer:
    """Prints events of one host for one reader."""

    def __init__(
        self,
        host: Host,
        redaction: Redaction,
        *,
        placement: Callable[[Event], Placement],
        file_kind: Callable[[FileOpen], FileKind],
        library: Callable[[LibLoad], LoadedLibrary | None],
    ) -> None:
        """Make ready.

        Args:
            host: knows the names of users.
            redaction: what the reader may not see.
            placement: unit and container of an event's process.
            file_kind: what the file is that an event tells of.
            library: the same for a loaded library; None for one that is none of cryptography.
        """
        self._host = host
        self._redaction = redaction
        self._placement = placement
        self._file_kind = file_kind
        self._library = library

    def document(self, event: Event) -> dict[str, Any] | None:
        """The event as it is printed; None for one that has nothing to do with cryptography."""
        kind, fields = _shape(type(event))
        known: dict[str, Any] = {
            name: value for name, default in fields if (value := getattr(event, name)) != default
        }
        known["event_type"] = kind
        if isinstance(event, FileOpen):
            known |= _file_words(self._file_kind(event))
        elif isinstance(event, LibLoad):
            found = self._library(event)
            if found is None:
                return None
            known |= _library_words(found)
        elif isinstance(event, ProcessExec):
            words = masked(event.argv, is_cut=event.truncated)
            known["cmdline"] = redact_command(words, self._redaction)
        self._redact(known)
        document = {key: known.pop(key, getattr(event, key, None)) for key in _ALWAYS + _KNOWN.get(kind, ())}
        document |= known
        placement = self._placement(event)
        document["unit"] = placement.label
        if placement.container is not None:
            document["container"] = placement.container
        document["user"] = self._redaction.name(self._host.user(event.uid))
        return document

    def _redact(self, known: dict[str, Any]) -> None:
        raw = known.get("file")
        for name in _PATHS:
            if isinstance(known.get(name), str):
                known[name] = self._redaction.path(known[name])
        if known.get("file") != raw:
            # `../alice/x` names whom the path no longer does.
            known.pop("file_raw", None)


def _file_words(kind: FileKind) -> dict[str, str]:
    words: dict[str, str] = {"file_type": kind.file_type}
    return words if kind.kind is None else words | {"file_kind": kind.kind}


def _library_words(library: LoadedLibrary) -> dict[str, Any]:
    """What its bytes say; its name where they could not be read, and that this is so."""
    words: dict[str, Any] = {"library_name": library.name, "library_family": library.family}
    if library.version is not None:
        words["library_version"] = library.version
    if library.embedded:
        words["embedded"] = True
    return words | {"known_by": library.by}


def redact_command(words: str, redaction: Redaction) -> str:
    """A command line with every path in it hidden, wherever in an argument it begins."""

    def hide(match: re.Match[str]) -> str:
        # `file:///home/alice`, `//home//alice` and `/tmp/../home/alice` lead there too.
        path = posixpath.normpath("/" + match[0].lstrip("/"))
        hidden = redaction.path(path)
        return match[0] if hidden == path else hidden

    return _PATH_IN_WORDS.sub(hide, words)
