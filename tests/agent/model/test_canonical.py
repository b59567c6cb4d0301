# SPDX-License-Identifier: Apache-2.0
"""The canonical form, against committed vectors, Python's own JSON, and what must be refused."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import canonical, limits
from agent.model.inventory import Entry, decode_part, encode_part

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_canonical_bytes_are_what_another_encoder_writes(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """RFC 8785 for our domain: sorted keys, no white space, short escapes, UTF-8. Python's json agrees."""
    other = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    assert canonical.encode(value) == other
    canonical.check_received(other)


@given(st.binary())
def test_the_escape_of_a_name_is_reversible(raw: bytes) -> None:
    """Two different files must never get one name."""
    escaped = canonical.escape_bytes(raw)

    assert canonical.unescape_text(escaped) == raw
    escaped.encode("utf-8")


@given(st.binary(), st.binary())
def test_two_names_never_share_an_escape(one: bytes, other: bytes) -> None:
    """Injective, stated directly."""
    assert (one == other) == (canonical.escape_bytes(one) == canonical.escape_bytes(other))


@pytest.mark.parametrize("vector", VECTORS["escapes"], ids=lambda vector: vector["text"])
def test_escape_vectors(vector: dict[str, str]) -> None:
    """Other implementations can check themselves against these."""
    assert canonical.escape_bytes(bytes.fromhex(vector["hex"])) == vector["text"]
    assert canonical.unescape_text(vector["text"]).hex() == vector["hex"]


@pytest.mark.parametrize("text", ["\\", "a\\q", "\\x1", "\\xZZ", "\\X41"])
def test_a_lone_backslash_is_no_escape(text: str) -> None:
    """A text that we cannot have written is refused, not guessed at."""
    with pytest.raises(canonical.MalformedDocumentError, match="lone backslash"):
        canonical.unescape_text(text)


@pytest.mark.parametrize("vector", VECTORS["timestamps"], ids=lambda vector: vector["text"])
def test_timestamp_vectors(vector: dict[str, Any]) -> None:
    """Six digits and Z, also at 0 us and before the year 1000."""
    assert canonical.timestamp(vector["epoch_ns"]) == vector["text"]
    assert canonical.timestamp_of(canonical.parse_timestamp(vector["text"])) == vector["text"]


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_every_timestamp_reads_back(moment: dt.datetime) -> None:
    """And texts order as moments do."""
    text = canonical.timestamp_of(moment)

    assert canonical.parse_timestamp(text) == moment
    assert len(text) == len("2026-01-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000Z",
        "2026-02-30T00:00:00.000000Z",
        "2026-01-01 00:00:00.000000Z",
        "",
    ],
)
def test_another_form_of_time_is_refused(text: str) -> None:
    """One way to say a thing."""
    with pytest.raises(canonical.MalformedDocumentError):
        canonical.parse_timestamp(text)


@pytest.mark.parametrize("vector", VECTORS["parts"], ids=lambda vector: vector["name"])
def test_part_vectors(vector: dict[str, Any]) -> None:
    """Entries in any form and order give exactly these bytes and this digest."""
    import msgspec

    entries = [msgspec.convert(entry, Entry) for entry in vector["entries"]]
    data = encode_part(reversed(entries))

    assert data.decode() == vector["canonical"]
    assert canonical.digest(data) == vector["digest"]
    assert encode_part(decode_part(data)) == data


REFUSED = {
    "not UTF-8": b'{"a":"\xff"}',
    "not JSON": b'{"a":',
    "two values": b"{} {}",
    "a duplicate key": b'{"a":1,"a":1}',
    "a duplicate key further in": b'[{"b":{"a":1,"c":2,"a":3}}]',
    "a duplicate key by escape": b'{"a":1,"\\u0061":1}',
    "a fraction": b"[1.5]",
    "an exponent": b"[1e3]",
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "an integer beyond 2**53": b"[9007199254740993]",
    "an integer of a million digits": b"[" + b"9" * 1_000_000 + b"]",
    "deep nesting": b"[" * 1000 + b"]" * 1000,
    "deep nesting of objects": b'{"a":' * 40 + b"1" + b"}" * 40,
    "a long string": b'["' + b"a" * (limits.STRING_CHARS_MAX + 10) + b'"]',
    "nothing": b"",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_bytes_that_two_readers_could_read_differently_are_refused(data: bytes) -> None:
    """Before anything decodes them into types."""
    with pytest.raises(canonical.MalformedDocumentError):
        canonical.check_received(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """The collector answers 400 to all that this raises, so it may raise nothing else."""
    try:
        canonical.check_received(data)
    except canonical.MalformedDocumentError:
        return
    json.loads(data)


def test_brackets_inside_strings_do_not_nest() -> None:
    """A path may hold any bracket."""
    canonical.check_received(json.dumps({"a": "[" * 500 + '\\"{'}).encode())
