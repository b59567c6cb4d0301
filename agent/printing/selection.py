# SPDX-License-Identifier: Apache-2.0
"""Which events and processes did somebody ask for? Filters that must all match, on raw truth.

They are asked before anything is redacted: `/home/alice/*` selects alice's files although /home/USER is
printed. Texts of events and documents are escaped (`agent.model.canonical.escape_bytes`); what a filter is
compared with is the name itself, so that a `?` is one character of it and a backslash is a backslash.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from agent.model import canonical


@dataclass(frozen=True)
class Selection:
    """What somebody asked for; None means anything.

    Attributes:
        pid: the process's number.
        name: part of the process's name (comm), case-sensitive.
        library: part of the library's path, case-sensitive.
        file: pattern of the whole path as fnmatch(3) has it, case-sensitive: `*` is any characters, `/`
            among them, `?` one, `[a-z]` one of these, `[!a-z]` one that is none of these.
    """

    pid: int | None = None
    name: str | None = None
    library: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, args: object) -> Self:
        """What a command line asks for; options that a command does not have ask for nothing.

        With --follow-children it is the kernel that tells whose descendant a process is, and asking for the
        number of the first would leave the others out.
        """
        is_following = getattr(args, "follow_children", False)
        return cls(
            pid=None if is_following else getattr(args, "pid", None),
            name=getattr(args, "name", None),
            library=getattr(args, "library", None),
            file=getattr(args, "file", None),
        )

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    def matches(self, *, pid: int, process: str, library: str | None = None, file: str | None = None) -> bool:
        """Whether an event was asked for. What lacks the field that a filter names does not match.

        Args:
            pid: of the process.
            process: its name.
            library: path of the library that the event is about, if it is about one.
            file: absolute path of the file that it is about, if it is about one.
        """
        return (
            (self.pid is None or self.pid == pid)
            and (self.name is None or self.name in _raw(process))
            and (self.library is None or (library is not None and self.library in _raw(library)))
            and (self.file is None or (file is not None and _pattern(self.file)(_raw(file)) is not None))
        )

    def admits(self, *, pid: int, process: str, libraries: Iterable[str], files: Iterable[str]) -> bool:
        """Whether a process as a whole was asked for: with one such library at least, and one such file."""
        return (
            Selection(pid=self.pid, name=self.name).matches(pid=pid, process=process)
            and (self.library is None or any(self.library in _raw(library) for library in libraries))
            and (self.file is None or any(_pattern(self.file)(_raw(file)) is not None for file in files))
        )


@functools.lru_cache(maxsize=16)
def _pattern(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(fnmatch.translate(pattern)).match


def _raw(words: str) -> str:
    """The name that an escaped text stands for, as Python has names of files (PEP 383)."""
    if "\\" not in words:  # nearly every name
        return words
    return canonical.unescape_text(words).decode("utf-8", "surrogateescape")
