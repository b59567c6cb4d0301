# SPDX-License-Identifier: Apache-2.0
r"""How is a name shown so that it cannot deceive the reader? Characters that act are written out.

Names on a host are its users' to choose. A path may hold an escape sequence that clears the terminal, a line
feed that forges a row, or a bidirectional override that turns `gpj.exe` around. Formats for people show such
characters as `\x1b` or `\u202e`. (A literal backslash in a document is already doubled by
`agent.model.canonical.escape_bytes`, so this stays readable both ways.) JSON needs none of it: it has its own
escapes, and programs must get the name as it is.
"""

from __future__ import annotations

import re
import unicodedata

from agent.model import canonical

_TIMESTAMP = re.compile(canonical.TIMESTAMP_PATTERN)
# Control, format (bidirectional overrides, zero width), surrogate, line and paragraph separators, unassigned.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"}


def visible(text: str) -> str:
    """The text with every character that acts, or cannot be seen, written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(char) if unicodedata.category(char) in _ACTING else char for char in text)


def to_second(text: str) -> str:
    """A timestamp cut to the second, on which everything here turns; any other text as it is."""
    return f"{text[:10]} {text[11:19]}Z" if _TIMESTAMP.match(text) else text


def readable(text: str) -> str:
    """A whole cell for a person to read: `visible`, and a timestamp `to_second`."""
    return visible(to_second(text))


def _written(char: str) -> str:
    point = ord(char)
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
