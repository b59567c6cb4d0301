# SPDX-License-Identifier: Apache-2.0
"""How does the collector come onto a host of the lab, which sees neither the checkout nor its environment?

As an operator would put it there without a network: this project's own wheel, and beside it the files of the
distributions that requirements-fleet.txt names, in an environment of the host's own Python.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.lab.host import Host

HOME = "/opt/cryptofleet"
COMMAND = "/usr/local/bin/fleet"
_SCRIPT = f"#!{HOME}/bin/python\nimport sys\n\nfrom fleet.cli import main\n\nsys.exit(main())\n"


def wheel(house: Path, directory: Path) -> Path:
    """The wheel of this checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    done = subprocess.run(build, cwd=house, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = directory.glob("*.whl")
    return found


def install(host: Host, house: Path, directory: Path) -> None:
    """Put the `fleet` command on a host.

    Skips where the host's Python could not load what was compiled for ours.
    """
    question = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    theirs = host.run(["/usr/bin/python3", "-c", question]).stdout.strip()
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs != ours:
        pytest.skip(f"the hosts have Python {theirs} and this environment is of Python {ours}")
    host.run(["/usr/bin/python3", "-m", "venv", "--without-pip", HOME])
    packages = f"{HOME}/lib/python{theirs}/site-packages"
    host.run(["tar", "-x", "-C", packages], feed=_archive(wheel(house, directory), _locked(house)))
    host.write(COMMAND, _SCRIPT, 0o755)


def _locked(house: Path) -> list[str]:
    """Names in the collector's lock that are for this Python."""
    lock = (house / "requirements-fleet.txt").read_text()
    return [name for name in re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE) if _is_installed(name)]


def _is_installed(name: str) -> bool:
    # Some are locked for other versions of Python than this environment's.
    try:
        distribution(name)
    except ModuleNotFoundError:
        return False
    return True


def _archive(ours: Path, names: list[str]) -> bytes:
    """A tar file of site-packages: the wheel's files and those distributions'."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive, zipfile.ZipFile(ours) as own:
        for name in own.namelist():
            member = tarfile.TarInfo(name)
            member.size, member.mode = own.getinfo(name).file_size, 0o644
            archive.addfile(member, io.BytesIO(own.read(name)))
        for name in names:
            for file in distribution(name).files or ():
                # Scripts, which lie outside, are for this environment's own interpreter.
                if ".." not in file.parts and file.suffix != ".pyc":
                    archive.add(str(file.locate()), str(file))
    return stream.getvalue()
