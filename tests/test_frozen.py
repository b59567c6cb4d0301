# SPDX-License-Identifier: Apache-2.0
"""Is the agent in one file the agent of this checkout, whole, and nothing else?"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from PyInstaller.archive.readers import CArchiveReader, ZlibArchiveReader

# Written out here, apart from the lock and from build.spec, so that a mistake there is seen.
NOT_FOR_HOSTS = {
    "bcrypt",
    "click",
    "elftools",
    "fleet",
    "jinja2",
    "litestar",
    "paramiko",
    "pytest",
    "reports",
    "rich",
    "sqlite3",
    "sqlite_utils",
    "structlog",
    "tabulate",
    "uvicorn",
}


@pytest.fixture(scope="module")
def archive(frozen_agent: Path) -> CArchiveReader:
    """What the file carries, as PyInstaller's own reader sees it."""
    return CArchiveReader(str(frozen_agent))


@pytest.fixture(scope="module")
def modules(archive: CArchiveReader) -> ZlibArchiveReader:
    """The Python modules in it."""
    return archive.open_embedded_archive("PYZ.pyz")


def output(command: list[str | Path], house: Path) -> bytes:
    """Standard output of a command that succeeds and says nothing on standard error."""
    done = subprocess.run(command, check=False, capture_output=True, cwd=house, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def selftest(command: list[str | Path], house: Path) -> dict[str, object]:
    """What an agent says it carries."""
    report: dict[str, object] = json.loads(output([*command, "selftest", "--format", "json"], house))
    return report


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_house(house: Path, place: Path) -> Path:
    """What the build reads, to be spoilt or moved."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("agent", "bpf"):
        shutil.copytree(house / name, place / name, ignore=ignore)
    for name in ("Makefile", "build.spec", "requirements-agent.txt", "requirements-dev.txt"):
        shutil.copy(house / name, place)
    (place / ".venv").symlink_to(house / ".venv")
    return place


def build(place: Path) -> subprocess.CompletedProcess[str]:
    """`make` of the one file in a copy."""
    command = ["make", "--no-print-directory", "-C", str(place), "dist/fleet-agent"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_frozen_agent_carries_what_the_checkout_has(frozen_agent: Path, house: Path) -> None:
    """Plugins are found by folder: one that packaging lost would be missed by nobody until it is needed."""
    frozen = selftest([frozen_agent], house)
    assert frozen == selftest([sys.executable, "-m", "agent"], house)
    assert frozen["bpf_objects"]


def test_the_frozen_agent_explains_itself(frozen_agent: Path, house: Path) -> None:
    """Help texts are docstrings, which an optimised build drops unless told otherwise."""
    # Given the help as the checkout prints it
    helped = output([sys.executable, "-m", "agent", "selftest", "--help"], house)
    # When the frozen file prints its own, it is the same
    assert output([frozen_agent, "selftest", "--help"], house) == helped
    assert b"examples:\n" in helped


def test_nothing_of_the_servers_is_in_the_file(
    archive: CArchiveReader, modules: ZlibArchiveReader, house: Path
) -> None:
    """It goes to every host: what is not there cannot be attacked there."""
    # Given the top-level names of all that is in the file
    names = [*archive.toc, *modules.toc]
    with zipfile.ZipFile(BytesIO(archive.extract("base_library.zip"))) as base:
        names += base.namelist()
    inside = {re.split(r"[/.]", name)[0] for name in names}

    # Then none is on the list, and each that is a distribution's is in the agent's lock
    assert inside & NOT_FOR_HOSTS == set()
    lock = (house / "requirements-agent.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    installed = packages_distributions()
    owners = {re.sub(r"[-_.]+", "-", owner).lower() for name in inside for owner in installed.get(name, ())}
    assert owners - {"cryptofleet"} <= locked
    assert "agent" in inside


def test_the_file_does_not_say_where_it_was_built(
    archive: CArchiveReader, modules: ZlibArchiveReader, house: Path
) -> None:
    """A path of the builder's machine is a leak, and makes the bytes depend on it."""
    place = str(house).encode()
    carriers = [name for name in archive.toc if place in archive.extract(name)]
    carriers += [name for name in modules.toc if place in modules.extract(name, raw=True)]
    assert carriers == []


def test_no_library_in_the_file_needs_one_that_a_host_may_lack(archive: CArchiveReader) -> None:
    """libbpf needs libelf and libz, which a minimal host does not have: they travel with it."""
    # Given the parts of the C library, which every glibc host has
    of_the_host = re.compile(r"^(ld-linux.*|libc|libdl|libm|libpthread|librt|libresolv|libutil)\.so\.\d+$")
    # When the names needed by every ELF file of this machine's kind are gathered
    libraries = [name for name, entry in archive.toc.items() if entry[-1] == "b"]
    needed: dict[str, list[str]] = {}
    for name in libraries:
        dynamic = ELFFile(BytesIO(archive.extract(name))).get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        # pyelftools gives this attribute to the tags that have it, which its types cannot say.
        needed[name] = [getattr(tag, "needed") for tag in dynamic.iter_tags("DT_NEEDED")]  # noqa: B009
    # Then each is in the file or in every host
    carried = {name.rpartition("/")[2] for name in libraries}
    lacking = {
        f"{name} needs {library}"
        for name, libraries in needed.items()
        for library in libraries
        if library not in carried and not of_the_host.match(library)
    }
    assert "libbpf.so.1" in carried
    assert lacking == set()


@pytest.mark.slow
def test_a_build_elsewhere_gives_the_same_bytes(frozen_agent: Path, house: Path, tmp_path: Path) -> None:
    """What was reviewed can be rebuilt and compared by anyone with this machine's libraries."""
    place = copy_house(house, tmp_path)
    done = build(place)
    assert done.returncode == 0, done.stderr
    assert digest(place / "dist/fleet-agent") == digest(frozen_agent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["click", "sqlite3", "multiprocessing"])
def test_the_build_refuses_what_is_not_for_hosts(house: Path, tmp_path: Path, name: str) -> None:
    """It must fail here, not on a host: a library of the server's, one of Python's, one merely left out."""
    # Given an agent that imports it somewhere deep
    place = copy_house(house, tmp_path)
    planted = place / "agent" / "formats" / "planted.py"
    planted.write_text(f'"""Planted."""\n\n\ndef lazily() -> None:\n    import {name}\n')
    # When it is built
    done = build(place)
    # Then there is no file, and the message names both
    assert done.returncode != 0
    assert f"{name} (by agent.formats.planted)" in done.stderr
    assert not (place / "dist/fleet-agent").exists()
