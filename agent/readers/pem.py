# SPDX-License-Identifier: Apache-2.0
r"""Which PEM blocks stand in these bytes? Only those asked for are decoded; a private key is stepped over.

Read as leniently as software in use reads it (RFC 7468 section 3): any text around the blocks, any line
length, indentation, and PEM inside a JSON or configuration string with its line ends written `\n`.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

# Every marker in one pass, so that a file of nothing but opening markers costs one pass too.
_MARKER = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----")
_SPACE = b" \t\r\n\v\f"
# What a string of JSON or of a shell writes for a line end, and JSON may write for a slash.
_ESCAPES = ((rb"\r", b""), (rb"\n", b""), (rb"\/", b"/"))
# Indentation is shorter than this. Looking further would read a file of one line once for each of its
# markers.
_INDENT_MAX = 64


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `data` is None where it is malformed: cut off, or not base64."""

    label: str
    data: bytes | None


def blocks(text: bytes, labels: Collection[str]) -> Iterator[Block]:
    """Blocks with one of the labels, in the order of the text.

    A marker on a line of its own without a whole block behind it is a malformed block. A marker within a line
    (a program that looks for it, a comment that explains it) is one only where a block follows.
    """
    markers = list(_MARKER.finditer(text))
    for opening, closing in itertools.zip_longest(markers, markers[1:]):
        label = opening[2].decode("ascii")
        if opening[1] != b"BEGIN" or label not in labels:
            continue
        data = None
        if closing is not None and closing[1] == b"END" and closing[2] == opening[2]:
            data = _decode(text[opening.end() : closing.start()])
        if data is not None or _alone(text, opening):
            yield Block(label, data)


def _decode(body: bytes) -> bytes | None:
    body = body.translate(None, _SPACE)
    if b"\\" in body:
        for written, meant in _ESCAPES:
            body = body.replace(written, meant)
    try:
        # Strict: base64 with a foreign character in it was damaged, and what is left of it is something else.
        return binascii.a2b_base64(body, strict_mode=True) or None
    except binascii.Error:
        return None


def _alone(text: bytes, marker: re.Match[bytes]) -> bool:
    """Whether nothing but white space stands before and behind a marker in its line."""
    before = text[max(0, marker.start() - _INDENT_MAX) : marker.start()]
    after = text[marker.end() : marker.end() + _INDENT_MAX]
    begins = b"\n" in before or marker.start() <= _INDENT_MAX
    ends = b"\n" in after or marker.end() + _INDENT_MAX >= len(text)
    return (
        begins and ends and not before.rpartition(b"\n")[2].strip() and not after.partition(b"\n")[0].strip()
    )
