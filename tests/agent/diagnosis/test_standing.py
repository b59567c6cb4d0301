# SPDX-License-Identifier: Apache-2.0
"""Where an agent stands, as far as it is not asked through the command (cli/test_status.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.diagnosis import standing
from agent.host import Host
from agent.model.status import Posts
from agent.state import StateDirectory
from tests.agent.cli.commands import AGENT, ALONE, AS_NOBODY, ENVIRONMENT, may_be_nobody
from tests.agent.cli.watching import until
from tests.agent.given import enrolled

# Does nothing, and has the arguments of the service.
FORGED = (
    "-c", "import sys; print('ready', flush=True); sys.stdin.read()", "-m", "agent", "run",
)  # fmt: skip


@contextmanager
def at_work(*words: str | Path, program: str | None = None) -> Iterator[int]:
    """A process that waits, after it has said that it is ready; its pid."""
    with subprocess.Popen(
        words, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.stdin.close()


def is_run(pid: int, state_dir: Path) -> bool:
    """As `status` judges it."""
    return standing.is_run(Host(), pid, str(state_dir))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (b"/usr/local/bin/fleet-agent run --window 60", True),
        (b"fleet-agent run", True),
        (b"/usr/bin/python3 -m agent run", True),
        (b"/usr/bin/python3.11 -X utf8 -m agent run", True),
        (b"/usr/bin/python3 /opt/bin/fleet-agent run", True),
        (b"fleet-agent run --once", False),
        (b"fleet-agent snapshot", False),
        (b"fleet-agent", False),
        (b"vim fleet-agent run", False),
        (b"python3 -m http.server run", False),
        (b"", False),
    ],
)
def test_the_service_is_known_by_its_arguments(words: bytes, expected: bool) -> None:
    """By itself, or under an interpreter; and not what only mentions it."""
    assert standing.is_service([*words.split(b" "), b""]) is expected


def test_the_service_itself_is_seen(tmp_path: Path) -> None:
    """A real one, at work, under the interpreter that runs this."""
    # Given the service of an enrolled host, which prints what it sees
    with StateDirectory(str(tmp_path / "state")) as state:
        enrolled(state, "https://127.0.0.1:1", b"")
    words = (*AGENT, "run", "--scanner", "host", "--sink", "stdout", "--state-dir", state.path)
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as process:
        try:
            # When its first round is over, and somebody looks
            assert process.stdout is not None
            assert process.stdout.readline()
            # Then it is the service
            assert is_run(process.pid, tmp_path / "state")
        finally:
            process.terminate()


@pytest.mark.root
def test_a_process_of_nobody_with_such_arguments_is_not_the_service(tmp_path: Path) -> None:
    """Anybody may call himself so; only who owns the agent's directory or is root is it."""
    may_be_nobody()
    with at_work(*AS_NOBODY, sys.executable, *FORGED) as pid:
        assert standing.is_service(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
        assert not is_run(pid, tmp_path)

        # And where the agent is that user's, it is
        os.chown(tmp_path, 65534, 65534)
        assert is_run(pid, tmp_path)


@pytest.mark.root
def test_a_program_that_gives_another_users_rights_is_not_the_service(tmp_path: Path) -> None:
    """Whoever starts a set-user-id program gives it its arguments, and it is root's while it asks."""
    python = tmp_path / "python3"
    shutil.copy(sys.executable, python)
    forged = ("python3", "-I", "-S", *FORGED)
    with at_work(*forged, program=str(python)) as pid:
        assert is_run(pid, tmp_path)
    python.chmod(0o4755)
    with at_work(*forged, program=str(python)) as pid:
        assert not is_run(pid, tmp_path)


@pytest.mark.root
def test_a_containers_agent_is_not_this_hosts_service(tmp_path: Path) -> None:
    """It has pids of its own, or a root of its own."""
    if subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no pid namespace can be made here")
    with at_work(*ALONE, sys.executable, *FORGED) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        until(lambda: bool(children.read_text().split()))
        (inner,) = map(int, children.read_text().split())

        assert standing.is_service(Path(f"/proc/{inner}/cmdline").read_bytes().split(b"\0"))
        assert not is_run(inner, tmp_path)


def test_the_next_post_is_when_the_collector_wanted_it() -> None:
    """Six digits and Z, as everywhere."""
    posts = Posts(delivered_at="2026-11-21T23:59:59.500000Z", next_post_s=60)

    assert standing.next_post_at(posts) == "2026-11-22T00:00:59.500000Z"
    assert standing.next_post_at(Posts()) is None
