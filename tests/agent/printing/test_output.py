# SPDX-License-Identifier: Apache-2.0
"""What is printed is whole or said not to be; the commands' own tests do the same with real streams."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from agent import errors
from agent.printing import output


class Broken(io.BytesIO):
    """A stream that takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, _data: object) -> int:
        raise self._error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")]
)
def test_after_a_failure_nothing_more_is_tried(
    tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would write the rest at exit, fail again, and complain in its own words."""
    with (tmp_path / "out").open("wb") as file:
        stream = io.TextIOWrapper(Broken(error))
        monkeypatch.setattr(sys, "stdout", Stream(stream, file.fileno()))

        with pytest.raises((BrokenPipeError, errors.OutputError)) as raised:
            output.put(b"x" * 10)

        assert isinstance(raised.value, BrokenPipeError) == isinstance(error, BrokenPipeError)
        os.write(file.fileno(), b"the rest")
        stream.detach()
    assert (tmp_path / "out").read_bytes() == b""


class Stream:
    """Standard output with that buffer and that number."""

    def __init__(self, text: io.TextIOWrapper, number: int) -> None:
        self.buffer = text.buffer
        self._number = number

    def flush(self) -> None:
        """Nothing waits."""

    def fileno(self) -> int:
        return self._number


def test_what_was_printed_before_comes_before(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Whoever uses `print` beside it does not overtake it."""
    print("one", flush=False)
    output.put(b"two\n")
    print("three")
    sys.stdout.flush()

    assert capfdbinary.readouterr().out == b"one\ntwo\nthree\n"


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step it fails."""
    path = tmp_path / "out"
    output.write_whole(str(path), b"old")
    for step in ("fsync", "rename", "fchmod"):

        def fail(*_arguments: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(errors.OutputError, match="input/output error"):
                output.write_whole(str(path), b"new")
        assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["out"])

    output.write_whole(str(path), b"new")
    assert path.read_bytes() == b"new"


def test_a_relative_name_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere."""
    monkeypatch.chdir(tmp_path)
    output.write_whole("out", b"x")

    assert (tmp_path / "out").read_bytes() == b"x"


def test_streams_that_are_open_are_left_alone() -> None:
    """Also when they are asked for twice."""
    before = sys.stdin, sys.stdout, sys.stderr

    output.open_standard_streams()

    assert (sys.stdin, sys.stdout, sys.stderr) == before
