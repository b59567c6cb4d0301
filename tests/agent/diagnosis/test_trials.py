# SPDX-License-Identifier: Apache-2.0
"""What is tried, and that nothing comes of it. What the answers are worth: cli/test_status.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.diagnosis import conditions, trials
from agent.diagnosis.trials import PROBE
from agent.host import Host
from agent.kernel import monitor
from tests.agent.cli.commands import AGENT, AS_NOBODY, ENVIRONMENT, may_be_nobody

# Those that `status` itself adds, about where this host stands.
OF_STANDING = {"switch", "configuration", "state", "enrolment"}


@pytest.mark.root
@pytest.mark.kernel
def test_every_condition_and_every_probe_is_tried() -> None:
    """What is in the table and never tried would be called well for ever."""
    tried = trials.attempts(Host())
    if tried["program"].failure is not None:
        pytest.skip(f"this kernel loads no program: {tried['program'].failure}")

    assert set(conditions.CONDITIONS) - OF_STANDING <= tried.keys()
    assert {PROBE + name for name in monitor.names()} <= tried.keys()


ASK = """
import sys
from agent.diagnosis import trials
from agent.disk import places
from agent.host import Host
places.PLACES = (places.Place(sys.argv[1], "a test"),)
print(trials._walk_places(Host())["places"])
"""


@pytest.mark.root
def test_files_are_asked_for_as_the_kernel_decides() -> None:
    """A closed directory and a closed file in an open one, by nobody and by one who may read all."""
    may_be_nobody()
    # Given a directory that nobody may enter and a file that nobody may read
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name, mode in (("open", 0o755), ("closed", 0o700)):
            place = Path(folder, name)
            place.mkdir()
            place.joinpath("a.pem").write_bytes(b"")
            place.joinpath("a.pem").chmod(0o600)
            place.joinpath("b.pem").write_bytes(b"")
            place.chmod(mode)

        # When he is asked, and when he has the capability
        def asked(*prefix: str) -> str:
            words = [*prefix, sys.executable, "-c", ASK, folder]
            return subprocess.run(words, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout

        without = asked(*AS_NOBODY)
        having = asked(*AS_NOBODY[:-1], "--inh-caps=-all,+cap_2", "--ambient-caps=-all,+cap_2")

    # Then both are told, and with it none is
    assert "2 of 3 refused" in without
    assert "is_denied=True" in without
    assert "failure=None" in having
    assert "(4)" in having


def test_no_file_of_the_host_is_opened_and_nothing_is_written(tmp_path: Path) -> None:
    """access(2) asks without opening: no watch on a private key cries because somebody asked."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "calls"
    calls = "openat,open,creat,mkdir,mkdirat,unlink,unlinkat,rename"
    words = ("strace", "-f", "-qq", "-o", log, "-e", f"trace={calls}")
    done = subprocess.run([*words, *AGENT, "status"], check=False, capture_output=True, env=ENVIRONMENT)
    if done.returncode:
        pytest.skip(f"strace cannot look: {done.stderr.decode().strip()[-200:]}")

    made = log.read_text()

    assert "/proc/" in made
    # Directories are opened, and configuration is read; no file of the places is opened.
    closed = ("/etc/ssl/private/", "/etc/shadow")
    private = [line for line in made.splitlines() if any(path in line for path in closed)]
    assert private == []
    written = [
        line
        for line in made.splitlines()
        if any(word in line for word in ("O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "unlink", "rename"))
        # Where output goes, and what the parser's child says of itself.
        and "/dev/null" not in line
        and "/proc/self/" not in line
        and " = -1 " not in line
    ]
    assert written == []
