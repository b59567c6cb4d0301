# SPDX-License-Identifier: Apache-2.0
"""Formats: one file per way to print what the agent says.

The contract. A format is a module in this folder; its file name with `-` for `_` is its name on the command
line; the first sentence of its docstring is its help. It has one or more of

    def document(value: Any) -> bytes       any whole document, with its final newline
    def snapshot(value: Any) -> bytes       a snapshot, where it is printed otherwise than other documents
    def profile(value: Any) -> bytes        a profile, the same way
    class Stream                            events, see `Stream`

and what it lacks, it does not print. Functions are pure and deterministic; a stream is so for the events it
was given. Nothing else has to be edited to add one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, Protocol

from agent import discover, errors

Kind = Literal["snapshot", "profile"]


class Stream(Protocol):
    """Events as bytes: `begin`, `item` for each, `end`. One instance is one such sequence.

    Attributes:
        is_whole: its bytes mean something from the beginning to the end only, so that nothing can be
            appended to them later.
    """

    is_whole: bool

    def begin(self) -> bytes:
        """What comes before the first event."""
        ...

    def item(self, value: Any) -> bytes:  # noqa: ANN401 - any event, as a dictionary
        """What one event adds."""
        ...

    def end(self) -> bytes:
        """What comes after the last one; also where there was none."""
        ...


def names(kind: Kind | Literal["stream"]) -> list[str]:
    """Formats in which such a thing can be printed, as the command line calls them."""
    return [
        name.replace("_", "-")
        for name, module in discover.plugins(sys.modules[__name__]).items()
        if _part(module, kind) is not None
    ]


def document(name: str, kind: Kind) -> Callable[[Any], bytes]:
    """How to print a document of that kind in the format of that name. Raises UsageError."""
    printer: Callable[[Any], bytes] = _choose(name, kind)
    return printer


def stream(name: str) -> Callable[[], Stream]:
    """How to begin a stream of events in the format of that name. Raises UsageError."""
    begin: Callable[[], Stream] = _choose(name, "stream")
    return begin


def _choose(name: str, kind: Kind | Literal["stream"]) -> Any:  # noqa: ANN401 - a module's part
    fitting = names(kind)
    if name not in fitting:
        raise errors.UsageError(f"format {name!r} prints no {kind}; use one of: {', '.join(fitting)}")
    return _part(discover.plugin(sys.modules[__name__], name.replace("-", "_")), kind)


def _part(module: ModuleType, kind: Kind | Literal["stream"]) -> Any:  # noqa: ANN401 - whatever has that name
    if kind == "stream":
        return getattr(module, "Stream", None)
    return getattr(module, kind, None) or getattr(module, "document", None)
