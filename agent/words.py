# SPDX-License-Identifier: Apache-2.0
"""How do the host's names and the kernel's reasons read among words for people?"""

from __future__ import annotations


def plain(words: str) -> str:
    """Words for a terminal: control characters of names found on the host are shown, not obeyed."""
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in words)


def why(error: OSError) -> str:
    """The kernel's reason, in lower case."""
    return (error.strerror or str(error)).lower()


def _escape(number: int) -> str:
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
