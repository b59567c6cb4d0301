# SPDX-License-Identifier: Apache-2.0
"""PEM as it is found: in bundles, in configuration, half written, quoted in programs."""

from __future__ import annotations

import base64
import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.readers import pem

LABELS = ("CERTIFICATE", "TRUSTED CERTIFICATE")
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def block(data: bytes, label: str = "CERTIFICATE", width: int = 64) -> bytes:
    """The usual form."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def found(text: bytes) -> list[bytes | None]:
    """What is in the blocks."""
    return [one.data for one in pem.blocks(text, LABELS)]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.integers(4, 200), st.binary(max_size=50))
def test_blocks_are_found_whatever_stands_around_them(several: list[bytes], width: int, noise: bytes) -> None:
    """Bundles carry comments, attributes and text in any encoding."""
    noise = noise.replace(b"-", b"")
    text = b"".join(noise + b"\n" + block(data, width=width) for data in several) + noise

    assert found(text) == several


def test_what_python_writes_is_read() -> None:
    """A writer that is not ours."""
    assert found(ssl.DER_cert_to_PEM_cert(b"some bytes").encode()) == [b"some bytes"]


@pytest.mark.parametrize(
    "text",
    [
        block(b"data").replace(b"\n", b"\r\n"),
        b"cert: |\n  " + block(b"data").replace(b"\n", b"\n  "),
        json.dumps({"ca": block(b"data").decode()}).encode(),
        json.dumps({"ca": block(b"data").decode()}).replace("/", "\\/").encode(),
        b"ca=" + block(b"data").replace(b"\n", b" "),
        block(b"data").rstrip(b"\n"),
        b"\xef\xbb\xbf" + block(b"data"),
    ],
    ids=["crlf", "yaml", "json", "json-slashes", "one-line", "no-newline-at-end", "byte-order-mark"],
)
def test_pem_in_configuration_is_read(text: bytes) -> None:
    """The forms in which agents, databases and Kubernetes keep it."""
    assert found(text) == [b"data"]


GARBLED = {
    "cut-off": block(b"x" * 100)[:90],
    "begin-alone": BEGIN + b"\n",
    "begin-at-the-end": b"text\n" + BEGIN,
    "no-base64": BEGIN + b"\n!!!!\n" + END + b"\n",
    "bad-padding": BEGIN + b"\nQUJDRA=\n" + END + b"\n",
    "empty": BEGIN + b"\n" + END + b"\n",
    "other-end": BEGIN + b"\nQUJD\n-----END X509 CRL-----\n",
}


@pytest.mark.parametrize("how", GARBLED)
def test_a_garbled_block_is_told_and_costs_no_other(how: str) -> None:
    """A file that is being written, or was edited by hand."""
    text = block(b"before") + GARBLED[how] + b"\n" + block(b"after")

    assert found(text) == [b"before", None, b"after"]


def test_other_labels_are_stepped_over() -> None:
    """A private key is neither decoded nor told of."""
    text = (
        block(b"one")
        + block(b"secret", "PRIVATE KEY")
        + block(b"two")
        + block(b"three", "TRUSTED CERTIFICATE")
    )

    assert found(text) == [b"one", b"two", b"three"]
    assert all(b"secret" not in repr(one).encode() for one in pem.blocks(text, LABELS))


@pytest.mark.parametrize(
    "program",
    [
        b'PEM_HEADER = "-----BEGIN CERTIFICATE-----"\nPEM_FOOTER = "-----END CERTIFICATE-----"\n',
        b"# put it between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----\n",
        b"#-----BEGIN CERTIFICATE-----\n#QUJD\n#-----END CERTIFICATE-----\n",
        b"grep -q -- '-----BEGIN CERTIFICATE-----' file\n",
        b"-----BEGIN CERTIFICATE----- follows\n",
    ],
)
def test_a_program_that_speaks_of_pem_holds_none(program: bytes) -> None:
    """Half of what mentions the marker on a host is source code; it is no damaged certificate."""
    assert found(program) == []


def test_a_file_of_markers_costs_one_pass() -> None:
    """Anybody may write a file of nothing but opening markers; 4 MiB of them must not hold the agent up."""
    text = BEGIN * 150_000

    assert found(text) == []
    assert found((BEGIN + b"\n") * 100_000) == [None] * 100_000
