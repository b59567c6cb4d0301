# SPDX-License-Identifier: Apache-2.0
"""What enrolling refuses before it asks anybody, and what posting says on a host that nobody enrolled."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import errors
from tests.agent.cli.commands import run, said

URL = ("--url", "https://127.0.0.1:1", "--pin", "sha256:" + "0" * 64)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the agent would keep what is its own."""
    return tmp_path / "state"


@pytest.mark.parametrize(
    "page", [b"", b"\n", b"\xff\xfe\n", b"\x1b[31mtoken\n", b"short\n", b"a b " * 20, b"x" * 100_000]
)
@pytest.mark.parametrize("way", ["standard input", "file"])
def test_what_is_no_token_is_refused_without_being_quoted(
    state: Path, tmp_path: Path, page: bytes, way: str
) -> None:
    """Whoever gave a wrong file by mistake must not find it in a log."""
    file = tmp_path / "token"
    file.write_bytes(page)
    place = "-" if way == "standard input" else file
    with file.open("rb") as stdin:
        # Strict, as a terminal's locale may have it.
        done = run(
            "enroll", *URL, "--token-file", place, "--state-dir", state,
            stdin=stdin, env={"PYTHONIOENCODING": "utf-8:strict"},
        )  # fmt: skip

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    (words,) = said(done)
    assert "token" in words
    assert len(words) < 400
    assert not state.exists()


def test_a_collector_that_is_not_there_leaves_nothing(state: Path) -> None:
    """It can be tried again as if it had not been."""
    done = run("enroll", *URL, "--state-dir", state, env={"CRYPTOFLEET_TOKEN": "cft_" + "0" * 60})

    assert (done.returncode, done.stdout) == (errors.EXIT_FAILURE, b"")
    assert "cannot reach https://127.0.0.1:1: " in said(done)[-1]
    assert not state.exists()


def test_posting_on_a_host_that_nobody_enrolled_says_what_to_do(state: Path) -> None:
    """Not that nothing waits."""
    done = run("post", "--state-dir", state)

    assert (done.returncode, done.stdout) == (errors.EXIT_FAILURE, b"")
    assert "run `fleet-agent enroll`" in said(done)[-1]
    assert not state.exists()
