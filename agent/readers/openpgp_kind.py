# SPDX-License-Identifier: Apache-2.0
"""Do these bytes begin an OpenPGP key, and which half of it? The first packet's header tells (RFC 9580)."""

from __future__ import annotations

_SECRET_KEY, _PUBLIC_KEY = 5, 6
_NAMES = {_SECRET_KEY: "openpgp-private", _PUBLIC_KEY: "openpgp-public"}
_VERSIONS = (3, 4, 5, 6)
# RFC 9580 section 9.1, and those numbers that RFC 4880 had.
_ALGORITHMS = frozenset({1, 2, 3, 16, 17, 18, 19, 20, 22, 25, 26, 27, 28})
# 512 bits of RSA; the smallest key of a curve has 45 bytes in its packet.
_BODY_BYTES_MIN, _BODY_BYTES_MAX = 40, 16384


def packets(data: bytes, length: int) -> str | None:
    """openpgp-private or openpgp-public, where a key's packet stands first; else None.

    Args:
        data: the first bytes.
        length: how many there are in all.
    """
    if len(data) < 12 or not data[0] & 0x80:
        return None
    if data[0] & 0x40:
        tag = data[0] & 0x3F
        header = _new_length(data)
    else:
        tag = data[0] >> 2 & 0xF
        header = _old_length(data)
    if header is None or tag not in _NAMES:
        return None
    start, body_length = header
    body = data[start : start + 10]
    fits = _BODY_BYTES_MIN <= body_length <= _BODY_BYTES_MAX and start + body_length <= length
    if not fits or len(body) < 8 or body[0] not in _VERSIONS:
        return None
    # Version, four bytes of time, in version 3 two of validity; then the algorithm.
    return _NAMES[tag] if body[7 if body[0] == 3 else 5] in _ALGORITHMS else None


def _old_length(data: bytes) -> tuple[int, int] | None:
    """Where the body begins and how long it is (section 4.2.2); None for the form that tells no length."""
    size = (1, 2, 4, 0)[data[0] & 3]
    return (1 + size, int.from_bytes(data[1 : 1 + size], "big")) if size else None


def _new_length(data: bytes) -> tuple[int, int] | None:
    """The same of section 4.2.1; None for partial lengths, which keys do not have."""
    first = data[1]
    if first < 192:
        return 2, first
    if first < 224:
        return 3, (first - 192 << 8) + data[2] + 192
    return (6, int.from_bytes(data[2:6], "big")) if first == 255 else None
