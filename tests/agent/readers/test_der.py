# SPDX-License-Identifier: Apache-2.0
"""The framing of DER: against openssl asn1parse, and against bytes that are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.readers import der
from tests.agent import openssl


def test_elements_begin_and_end_where_openssl_says(tmp_path: Path) -> None:
    """Offset, header length and length of every element of a certificate."""
    made = openssl.make(tmp_path, "/C=DE/O=Example/CN=framing", newkey="rsa:2048").der
    page = openssl.run("asn1parse", "-inform", "DER", given=made).decode()
    theirs = {
        (int(at), int(header), int(length))
        for at, header, length in re.findall(r"^ *(\d+):d=\d+ +hl=(\d+) +l= *(\d+) ", page, re.MULTILINE)
    }

    ours = set()
    todo = [der.read(made)]
    while todo:
        element = todo.pop()
        ours.add((element.start, element.content - element.start, element.end - element.content))
        if element.tag & 0x20:
            todo += element.children()

    assert len(ours) > 30
    assert ours == theirs


@given(st.integers(0, 255), st.binary(max_size=300))
def test_what_is_encoded_is_read_back(tag: int, value: bytes) -> None:
    """Lengths of one, two and three bytes."""
    tag = tag & ~0x1F | min(tag & 0x1F, 0x1E)
    encoded = der.encode(tag, value)

    element = der.read(encoded + b"what follows")

    assert (element.tag, element.value, element.encoded) == (tag, value, encoded)
    assert der.total_length(encoded[:5]) == len(encoded)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_der_are_an_error_of_ours(data: bytes) -> None:
    """Any bytes: an element within them, or MalformedDerError."""
    der.total_length(data)
    try:
        element = der.read(data)
        children = element.children()
    except der.MalformedDerError:
        return
    assert element.end <= len(data)
    assert b"".join(child.encoded for child in children) == element.value


@pytest.mark.parametrize(
    ("encoded", "dotted"),
    [
        ("06032b6570", "1.3.101.112"),
        ("060355040a", "2.5.4.10"),
        ("06042a818a01", "1.2.17665"),
        ("0603883703", "2.999.3"),
        ("060100", "0.0"),
    ],
)
def test_object_identifiers_are_told_in_dotted_form(encoded: str, dotted: str) -> None:
    """X.690 section 8.19; 2.999 is the example there."""
    assert der.oid(der.read(bytes.fromhex(encoded))) == dotted


@pytest.mark.parametrize("encoded", ["0600", "060180", "0403550403"])
def test_what_is_no_object_identifier_is_refused(encoded: str) -> None:
    """Empty, ending within a number, or another type."""
    with pytest.raises(der.MalformedDerError):
        der.oid(der.read(bytes.fromhex(encoded)))
