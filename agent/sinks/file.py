# SPDX-License-Identifier: Apache-2.0
"""A file: the whole document, put in place in one step, for carrying by hand or collecting by other means."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from agent import errors
from agent.document import Draft
from agent.printing import output
from agent.sinks import Context, Receipt, Spec, whole_document


class Settings(Struct, frozen=True):
    """[sink.file]."""

    path: Annotated[str, Meta(pattern="^/.*[^/]$")]
    """Where the document goes. The directory must exist; an older document there is replaced."""


SPEC = Spec(settings=Settings, enrolled=False)


def send(draft: Draft, settings: Settings, context: Context) -> Receipt:
    """Write the document, 0600. A reader sees the old one or the new one, whole.

    Raises:
        ConfigError: the place cannot be written to, or holds something that is no file.
        StateError: the host's key is there and cannot be used.
    """
    try:
        output.write_whole(settings.path, whole_document(draft, context) + b"\n")
    except (errors.UsageError, errors.OutputError) as error:
        # Who set the path is told in the same words as who gives one on the command line.
        raise errors.ConfigError(f"sink.file.path: {error}") from error
    return Receipt(where=settings.path, outcome="written")
