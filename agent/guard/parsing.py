# SPDX-License-Identifier: Apache-2.0
"""Who reads the bytes of a file found on the host? A parser: given open files and a function, its answers.

Whoever opens a file holds the privilege to; whoever reads hostile bytes should hold none. So scanners open,
and hand descriptors to `Host.parse` together with the function that understands them. `InProcess` calls it
here, for tests and where no second process may be; a sandbox calls it in a child that may do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from agent import errors

T = TypeVar("T")

Function = Callable[..., T]
"""(fd, path, *args) -> T: reads an open file by position (pread(2)); `path` is for messages.

It is a function of a module; T is its return annotation and something that msgspec encodes and decodes, and
so are the arguments, by their annotations. It raises HostError leaves alone: MalformedError where the bytes
contradict themselves.

Where it runs nothing can be opened or asked of the system any more, the modules of Python included. A file's
size is `os.lseek(fd, 0, os.SEEK_END)`; fstat(2) is not always there. What is imported at first use (codecs
are, and parts of `cryptography`) has to be used once before: its module may have a function `prepare()`,
which is called, without arguments, before the process is made that runs the function.
"""


class Opened(NamedTuple):
    """An open regular file."""

    fd: int
    path: str


class Parser(Protocol):
    """One way to have files read."""

    @property
    def pids(self) -> frozenset[int]:
        """Processes that it has made and that are still there; who looks at processes leaves them out."""
        ...

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        """The answers in the order of the files; a file that cannot be read is an error in its place.

        Args:
            function: see `Function`.
            files: open files, still the caller's to close.
            args: the same for each file.
        """
        ...

    def close(self) -> None:
        """No more questions. Harmless the second time."""
        ...


class InProcess:
    """The function is called right here."""

    @property
    def pids(self) -> frozenset[int]:
        """See `Parser`: none."""
        return frozenset()

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        """See `Parser`."""
        answers: list[T | errors.HostError] = []
        for opened in files:
            try:
                answers.append(function(opened.fd, opened.path, *args))
            except errors.HostError as error:
                answers.append(error)
        return answers

    def close(self) -> None:
        """See `Parser`."""
