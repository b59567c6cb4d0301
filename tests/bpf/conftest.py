# SPDX-License-Identifier: Apache-2.0
"""What do tests of the kernel half share? Compiled objects, an opener of files, a window."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.host import Host
from agent.kernel.monitor import Window, open_window
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.source import ProbeStats
from tests.bpf.kinds import Compile, Doer, Observe, Opener, Seen, Watch


@pytest.fixture(scope="session")
def objects(house: Path) -> Path:
    """The folder with the compiled objects. What is missing to compile them is the reason for a skip."""
    for tool in ("make", "clang", "llvm-strip", "bpftool"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin") is None:
            pytest.skip(f"{tool} is not installed, so the objects cannot be compiled")
    (house / "build").mkdir(exist_ok=True)
    with (house / "build" / "bpf.lock").open("w") as lock:
        # Two runs must not write the same object at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(["make", "-C", str(house / "bpf")], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return house / "bpf"


@pytest.fixture(scope="session")
def opener_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled opener.c."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed, so the opener cannot be compiled")
    path = tmp_path_factory.mktemp("opener") / "opener"
    source = Path(__file__).with_name("opener.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-pthread", "-o", str(path), str(source)], check=True)
    return path


@pytest.fixture
def opener(opener_path: Path) -> Opener:
    """Run opener.c."""

    def run(
        way: str,
        count: int,
        file: str | bytes | Path,
        directory: Path | None = None,
        *,
        cwd: Path | None = None,
    ) -> None:
        command: list[str | bytes | Path] = [opener_path, way, str(count), file]
        if directory is not None:
            command.append(directory)
        subprocess.run(command, check=True, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def compiled() -> Compile:
    """Compile C."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed, so nothing can be compiled")

    def run(made: Path, words: Sequence[str]) -> Path:
        subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", str(made), *words], check=True)
        return made

    return run


@pytest.fixture(scope="session")
def doer_path(tmp_path_factory: pytest.TempPathFactory, compiled: Compile) -> Path:
    """The compiled doer.c."""
    source = str(Path(__file__).with_name("doer.c"))
    return compiled(tmp_path_factory.mktemp("doer") / "doer", ["-pthread", source, "-ldl"])


@pytest.fixture
def doer(doer_path: Path) -> Doer:
    """Run doer.c."""

    def run(
        *words: str | bytes | Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        # In the directory that a core would be written to.
        return subprocess.run(
            [doer_path, *words], check=False, env={**os.environ, **(env or {})}, cwd=doer_path.parent
        )

    return run


@pytest.fixture
def watch(objects: Path) -> Watch:
    """Do something while a window is open; see `observe`."""

    def run(
        action: Callable[[Window], object],
        *probes: str,
        pid: int | None = None,
        is_following: bool = False,
        is_family_seen: bool = True,
        ring_bytes: int | None = None,
    ) -> Seen:
        try:
            window = open_window(
                Host(),
                probes or None,
                pid=pid,
                is_following=is_following,
                is_family_seen=is_family_seen,
                ring_bytes=ring_bytes,
            )
        except (errors.KernelError, errors.AttachError) as error:
            pytest.skip(str(error))
        with window:
            assert window.refused == {}
            action(window)
            window.stop()
            events = list(window.events())
            return Seen(events, {one.probe: one for one in window.stats()})

    return run


@pytest.fixture
def observe(objects: Path) -> Observe:
    """Do something while a window is open; returns the file opens seen and the account.

    There is no waiting: the programs are attached before `action` begins, and everything it did is in the
    ring when it ends. What the rest of the machine opens is in the answer too.
    """

    def run(
        action: Callable[[], object], *, is_folding: bool = False, ring_bytes: int | None = None
    ) -> tuple[list[FileOpen], ProbeStats]:
        try:
            window = open_window(
                Host(), ["file_open"], is_folding=is_folding, ring_bytes=ring_bytes, is_family_seen=True
            )
        except (errors.KernelError, errors.AttachError) as error:
            pytest.skip(str(error))
        with window:
            action()
            window.stop()
            seen = [event for event in window.events() if isinstance(event, FileOpen)]
            (stats,) = window.stats()
        return seen, stats

    return run
