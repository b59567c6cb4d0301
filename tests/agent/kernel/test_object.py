# SPDX-License-Identifier: Apache-2.0
"""Is a compiled object found where it was put, and its absence explained? Loading is tested in tests/bpf."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent import errors
from agent.kernel.object import read_image


def test_the_frozen_files_own_object_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was built and tested together with that agent; one that lies about in a directory was not."""
    # Given a bundle with an object
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "file_open.bpf.o").write_bytes(b"of the bundle")
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path), raising=False)
    # When it is asked for
    # Then it is the bundle's
    assert read_image("file_open") == b"of the bundle"


def test_a_missing_object_says_where_it_was_looked_for_and_how_to_make_it(house: Path) -> None:
    """After a checkout nothing is compiled."""
    with pytest.raises(errors.AttachError) as caught:
        read_image("nothing")
    assert f"{house}/bpf/nothing.bpf.o not found; compile it with `make -C bpf`" in str(caught.value)
