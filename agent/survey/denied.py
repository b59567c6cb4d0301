# SPDX-License-Identifier: Apache-2.0
"""Which files would no process show us so far? One that is denied through one process, another may show.

With CAP_PERFMON, and without CAP_SYS_PTRACE, the maps page of another user's process can be read, and none of
its files be opened (Linux 6.14, kernel/fork.c, may_access_mm): who may more must not see less for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent import errors
from agent.host import Host
from agent.model.inventory import SkipReason

# Through processes that let us in: it is the file's own mode that denies it then, to one like to the other.
_TRIES_MAX = 8

T = TypeVar("T")


@dataclass
class _Denied(Generic[T]):
    """One file."""

    name: str
    place: T
    tries: int = 0
    is_told: bool = False


class DeniedFiles(Generic[T]):
    """Files that were denied, and the place of what will be known of each when another process shows it."""

    def __init__(self, host: Host, skip: Callable[[SkipReason, str], None]) -> None:
        self._host = host
        self._skip = skip
        self._files: dict[Hashable, _Denied[T]] = {}
        self._asked: tuple[int, bool] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def get(self, key: Hashable) -> T | None:
        """The place of a file that was denied."""
        found = self._files.get(key)
        return None if found is None else found.place

    def through(self, key: Hashable, pid: int) -> T | None:
        """The place of a file that was denied, if trying it through this process is in vain."""
        found = self._files.get(key)
        return found.place if found is not None and self._is_shut(pid) else None

    def add(self, key: Hashable, name: str, place: T) -> tuple[T, bool]:
        """Note that a file was denied.

        Returns:
            The place that stands for it from now on, which is the first that was given; and whether it has
            been tried often enough. It is counted then, and no longer here.
        """
        found = self._files.setdefault(key, _Denied(name, place))
        found.tries += 1
        is_last = found.tries >= _TRIES_MAX
        if is_last:
            self._tell(self._files.pop(key))
        return found.place, is_last

    def take(self, key: Hashable, name: str | None = None) -> T | None:
        """The place of a file that has been shown now; None where it was not denied, or by another name."""
        found = self._files.get(key)
        if found is None or name not in (None, found.name):
            return None
        del self._files[key]
        return found.place

    def settle(self) -> None:
        """Count those that nobody has shown, each once; they may still be shown."""
        self._asked = None
        for one in self._files.values():
            self._tell(one)

    def _tell(self, one: _Denied[T]) -> None:
        if not one.is_told:
            one.is_told = True
            self._skip("denied", one.name)

    def _is_shut(self, pid: int) -> bool:
        """Whether a process lets us have none of its files.

        The kernel asks for this link what it asks for each of the others (ptrace(2), PTRACE_MODE_READ). Asked
        once for each of thousands of processes, not once for each file of each.
        """
        if self._asked is None or self._asked[0] != pid:
            try:
                self._host.read_link(f"/proc/{pid}/root")
                is_shut = False
            except errors.DeniedError:
                is_shut = True
            except errors.HostError:
                # It has ended, which the next question to it will tell.
                is_shut = False
            self._asked = (pid, is_shut)
        return self._asked[1]
