# SPDX-License-Identifier: Apache-2.0
"""Do settings pack as the kernel half compares them, and do paths unpack? See tests/bpf for the layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel import event


def is_wanted(name: bytes, packed: bytes) -> bool:
    """What the kernel half says: the words before the end, with their case folded, under the mask."""
    before = (bytes(event.SUFFIX_BYTES_MAX) + name)[-event.SUFFIX_BYTES_MAX :]
    folded = bytes(byte | 0x20 for byte in before)
    for at in range(0, event.SUFFIXES_MAX * 32, 32):
        value, mask = packed[at : at + 16], packed[at + 16 : at + 32]
        if any(mask) and bytes(a & b for a, b in zip(folded, mask, strict=True)) == value:
            return True
    return False


@given(st.text("abpemkyPEMKY.", max_size=24))
def test_suffixes_compare_as_a_program_without_masks_would(name: str) -> None:
    """Masked words are quick for the kernel and hard to read; this says what they mean."""
    # Given some suffixes
    suffixes = (b".pem", b".key", b".keystore")
    packed = event.pack_settings(event.NameFilter(suffixes), event.Who(own=(1,)))
    # When a name is compared both ways
    # Then the answer is the same
    assert is_wanted(name.encode(), packed) == name.lower().encode().endswith(suffixes)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (event.NameFilter(suffixes=(b"",)), "suffixes: b'' has 0 bytes"),
        (event.NameFilter(suffixes=(b"." + b"x" * 16,)), "has 17 bytes; it must have 1 to 16"),
        (event.NameFilter(suffixes=tuple(b".%d" % number for number in range(33))), "33 suffixes"),
        (event.NameFilter(basenames=(b"x" * 17,)), "basenames"),
        (event.NameFilter(directories=(b"/" * 33,)), "directories"),
        (event.NameFilter(directories=(b"/a/",) * 9), "9 directories"),
    ],
)
def test_a_filter_that_the_kernel_half_cannot_hold_is_refused(
    names: event.NameFilter, complaint: str
) -> None:
    """A filter cut short would match what nobody asked for."""
    with pytest.raises(ValueError, match=r"bytes|at most") as caught:
        event.pack_settings(names, event.Who(own=(1,)))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("data", "components"),
    [
        (b"", []),
        (b"bin\0", [b"bin"]),
        (b"nginx\0sbin\0usr\0", [b"usr", b"sbin", b"nginx"]),
        (b"new\nline\0\xff\0", [b"\xff", b"new\nline"]),
    ],
)
def test_components_come_from_the_root_on(data: bytes, components: list[bytes]) -> None:
    """The kernel half walks upwards."""
    assert event.split_components(data) == components


def test_components_without_their_end_are_malformed() -> None:
    """Then the lengths in the record were wrong, and nothing in it can be trusted."""
    with pytest.raises(event.MalformedEventError):
        event.split_components(b"nginx\0sbi")


def test_counters_add_up_over_cpus() -> None:
    """Also over none: a kernel with no CPU is no crash."""
    assert event.total([event.Counters(*range(8)), event.Counters(*range(10, 18))]) == event.Counters(
        *range(10, 26, 2)
    )
    assert event.total([]) == event.NOTHING


def test_more_processes_of_our_own_than_the_kernel_half_holds_are_refused() -> None:
    """One that is left out would be reported as the host's."""
    with pytest.raises(ValueError, match="5 processes of our own; the kernel half knows at most 4"):
        event.pack_settings(event.NameFilter(), event.Who(own=(1, 2, 3, 4, 5)))
