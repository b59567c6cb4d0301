# SPDX-License-Identifier: Apache-2.0
"""What are the exact bytes of a document? One canonical form, one digest, one escape for names, one timestamp.

Canonical form: UTF-8 JSON, object keys sorted, no white space, unset fields omitted, no fractions. For this
domain (integers within 2**53, ASCII keys) it is the form of RFC 8785. Test vectors in tests/agent/model fix all of it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Any, NoReturn

import msgspec

from agent.model import limits

_ENCODER = msgspec.json.Encoder(order="sorted")
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
_DIGEST = re.compile(DIGEST_PATTERN)
TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_TIMESTAMP = re.compile(TIMESTAMP_PATTERN)
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


class MalformedDocumentError(ValueError):
    """The bytes are not a document of ours. The message says where and why; nothing was kept of them."""


def encode(value: Any) -> bytes:  # noqa: ANN401 - every document type is accepted
    """The canonical bytes of a document, part, entry or asset."""
    return _ENCODER.encode(value)


def digest(data: bytes) -> str:
    """`sha256:` and 64 lower-case hex digits over the bytes as they are."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether the text has the form of a digest of ours."""
    # `$` alone would let a line feed follow.
    return _DIGEST.fullmatch(text) is not None


def escape_bytes(raw: bytes) -> str:
    r"""Text for a name that the kernel knows as bytes: a backslash becomes `\\`, a byte that is not UTF-8 `\xNN`.

    Reversible (`unescape_text`), so two different files never get one name. Control characters stay: JSON carries them.
    """
    if b"\\" not in raw:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescape_text(text: str) -> bytes:
    """The bytes that `escape_bytes` was given.

    Raises:
        MalformedDocumentError: a backslash that begins neither of the two escapes.
    """
    out = bytearray()
    at = 0
    while (slash := text.find("\\", at)) >= 0:
        out += text[at:slash].encode()
        match = _ESCAPE.match(text, slash)
        if match is None:
            raise MalformedDocumentError(f"a lone backslash at character {slash} of an escaped name")
        out += bytes([int(match[1], 16)]) if match[1] else b"\\"
        at = match.end()
    return bytes(out + text[at:].encode())


def timestamp(epoch_ns: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffffZ` of nanoseconds since 1970 UTC: always six digits, also at 0 us."""
    seconds, rest_ns = divmod(epoch_ns, 1_000_000_000)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return timestamp_of(moment + dt.timedelta(microseconds=rest_ns // 1000))


def timestamp_of(moment: dt.datetime) -> str:
    """The same text of an aware datetime."""
    # isoformat pads years before 1000 with zeros, which strftime does not.
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_timestamp(text: str) -> dt.datetime:
    """The aware UTC datetime of a timestamp of ours.

    Raises:
        MalformedDocumentError: another form, or no such moment.
    """
    if not _TIMESTAMP.match(text):
        raise MalformedDocumentError(f"{text[:40]!r} is not a timestamp; write YYYY-MM-DDTHH:MM:SS.ffffffZ")
    try:
        return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise MalformedDocumentError(f"{text!r} is no moment in time: {error}") from error


def check_received(data: bytes) -> None:
    """Refuse bytes that two readers could read differently, before anybody decodes them into types.

    Raises:
        MalformedDocumentError: not UTF-8, not JSON, duplicate keys, fractions or NaN, integers beyond 2**53,
            a string longer than STRING_CHARS_MAX, or nesting beyond DEPTH_MAX.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedDocumentError(f"not UTF-8 at byte {error.start}") from error
    _check_depth(data)
    try:
        json.loads(
            text,
            object_pairs_hook=_unique_object,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_bounded_int,
        )
    except json.JSONDecodeError as error:
        raise MalformedDocumentError(f"not JSON: {error.msg} at character {error.pos}") from error


# Everything that can change the depth, or hide a bracket: strings are taken whole. Possessive, and an unterminated string is
# taken to the end of the data: a pattern that could step back would need quadratic time for hostile backslashes, and a
# gigabyte for 8 MiB in one string.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(data):
        token = match[0]
        first = token[0]
        if first in b"[{":
            depth += 1
            if depth > limits.DEPTH_MAX:
                raise MalformedDocumentError(f"nested deeper than {limits.DEPTH_MAX} at byte {match.start()}")
        elif first in b"]}":
            depth -= 1
        elif len(token) > limits.STRING_CHARS_MAX:
            raise MalformedDocumentError(
                f"a string of {len(token)} bytes at byte {match.start()}; the limit is {limits.STRING_CHARS_MAX}"
            )


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedDocumentError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise MalformedDocumentError(f"the number {text[:40]!r}; only integers are allowed")


def _bounded_int(text: str) -> int:
    # 2**53 has 16 digits; a longer text is refused before Python spends time on it.
    if len(text) > 17 or abs(int(text)) > 2**53:
        raise MalformedDocumentError(f"an integer beyond 2**53: {text[:40]}")
    return int(text)
