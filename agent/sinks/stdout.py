# SPDX-License-Identifier: Apache-2.0
"""Standard output: the whole document on one line, for a pipe or a run over SSH."""

from __future__ import annotations

from msgspec import Struct

from agent.document import Draft
from agent.printing import output
from agent.sinks import Context, Receipt, Spec, whole_document


class Settings(Struct, frozen=True):
    """None."""


SPEC = Spec(settings=Settings, enrolled=False)


def send(draft: Draft, settings: Settings, context: Context) -> Receipt:
    """Print the document.

    Raises:
        BrokenPipeError: the reader has gone; the command line ends quietly on it.
        OutputError: the disk behind it is full, or it is closed.
        StateError: the host's key is there and cannot be used.
    """
    output.put(whole_document(draft, context) + b"\n")
    return Receipt(where="standard output", outcome="written")
