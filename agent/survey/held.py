# SPDX-License-Identifier: Apache-2.0
"""Which cryptographic libraries and files has one process at this moment, and how were the files opened?

The same look that the survey of all processes takes, at one; and the access modes of descriptors, which the
survey does not need.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from agent import errors
from agent.host import Host, text
from agent.scanners import Scan
from agent.survey import census_pages
from agent.survey.census import Census
from agent.survey.mapped import DELETED, Mapped
from agent.survey.pages import Pages
from agent.survey.process import HeldFile, HeldLibrary

# proc_pid_fdinfo(5); flags are octal.
_FLAGS = re.compile(rb"^flags:[ \t]*([0-7]{1,22})$", re.MULTILINE)
_MODES = {os.O_RDONLY: {"read"}, os.O_WRONLY: {"write"}, os.O_RDWR: {"read", "write"}}


@dataclass(frozen=True)
class Held:
    """What one process has."""

    libraries: tuple[HeldLibrary, ...] = ()
    files: tuple[tuple[HeldFile, frozenset[str]], ...] = ()
    """Each with `read`, `write`, both, or nothing where that is not known."""


class Looks:
    """Looks at one process after the other; a file is read once. A context manager."""

    def __init__(self, host: Host) -> None:
        """Make ready. Raises HostError."""
        self._host = host
        self._scan = Scan()
        self._census = Census(host, self._scan)

    def __enter__(self) -> Self:
        self._census.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._census.__exit__(kind, value, trace)

    @property
    def hidden(self) -> dict[str, int]:
        """How many things were not looked at, by the reason. What vanished or is malformed is not hidden."""
        seen = ("vanished", "malformed")
        return {reason: count for reason, count in sorted(self._scan.skipped.items()) if reason not in seen}

    def at(self, pid: int) -> Held:
        """What the process with that number has; nothing where it has gone."""
        census = self._census
        census.sighted.clear()
        census_pages.take(census, [pid])
        census.finish()
        for one in census.sighted:
            libraries = {_library(slot.mapped) for slot in one.mapped if slot.mapped is not None}
            files = {use.held for use in one.opened if use.held is not None}
            modes = _modes(self._host, pid, {held.path for held in files}) if files else {}
            return Held(
                tuple(sorted(libraries, key=lambda held: (held.path, held.deleted, held.version or ""))),
                tuple(
                    (held, frozenset(modes.get(held.path, ())))
                    for held in sorted(files, key=lambda held: (held.path, held.deleted))
                ),
            )
        return Held()


def _library(mapped: Mapped) -> HeldLibrary:
    return HeldLibrary(
        path=text(mapped.path),
        deleted=mapped.deleted,
        family=mapped.library.family,
        name=mapped.library.name,
        version=mapped.library.version,
    )


def _modes(host: Host, pid: int, paths: set[str]) -> dict[str, set[str]]:
    """How these files are open, by path; a file that was closed meanwhile is left out."""
    found: dict[str, set[str]] = {}
    try:
        with Pages(host, pid) as pages:
            descriptors = pages.descriptors()
            try:
                for number, name in descriptors:
                    path = "" if name is None else text(os.fsdecode(name).removesuffix(DELETED))
                    if path in paths:
                        found.setdefault(path, set()).update(_mode(pages, number))
            finally:
                descriptors.close()
    except errors.HostError:
        # It ended, and what is known of it stays.
        return found
    return found


def _mode(pages: Pages, number: int) -> set[str]:
    try:
        flags = _FLAGS.search(pages.read(f"fdinfo/{number}"))
    except errors.HostError:
        return set()
    return set() if flags is None else _MODES.get(int(flags[1], 8) & os.O_ACCMODE, set())
