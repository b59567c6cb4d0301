# SPDX-License-Identifier: Apache-2.0
"""Formats: one file per way to write a document.

The contract. A format is a module in this folder. Its file name is its name for `--format`; the first
sentence of its docstring is its help. It has

    SPEC = Spec(...)                                 what a web server or a file name would call it
    def render(document: Document) -> str            the whole text, ending in a line feed; pure

It shows every row and the table of what is not known. A format for people writes names through
`reports.text.visible`; one for programs keeps them as they are. Nothing else has to be edited to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from msgspec import Struct

from reports.document import Document


class Spec(Struct, frozen=True, kw_only=True):
    """What a format is, without using it.

    Attributes:
        media_type: as registered with IANA.
        extension: of a file, without the dot.
        for_people: whether a person reads it as it is; then detail columns are left out and names are made
            visible.
    """

    media_type: str
    extension: str
    for_people: bool


class Format(Protocol):
    """The shape of a module in this folder."""

    SPEC: Spec

    def render(self, document: Document) -> str:
        """Write a document."""
        ...


def names() -> list[str]:
    """Every format there is, sorted. Names that begin with an underscore are none."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))


def load(name: str) -> Format:
    """The format of that name, which must be one of `names()`."""
    return cast("Format", importlib.import_module(f"{__name__}.{name}"))
