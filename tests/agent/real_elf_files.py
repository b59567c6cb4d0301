# SPDX-License-Identifier: Apache-2.0
"""ELF files that this host happens to have: what we did not write, and cannot have written for ourselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent.readers.elf import MAGIC

_FOLDER = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"
LIBRARIES = _FOLDER if _FOLDER.is_dir() else Path("/usr/lib64")
PROGRAMS = tuple(Path(folder) for folder in ("/usr/bin", "/usr/sbin", "/usr/libexec"))


def elf_files(*folders: Path) -> Iterator[Path]:
    """Every ELF file directly in the folders, links not among them, sorted."""
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            with path.open("rb") as file:
                if file.read(4) == MAGIC:
                    yield path


def some_libraries() -> list[Path]:
    """One in twelve of the linker's own folder, the larger part of them no crypto."""
    real = [path for path in elf_files(LIBRARIES) if ".so." in path.name]
    # The other reader takes 10 s for a compiler's library.
    return [path for path in real if path.stat().st_size < 4 << 20][::12]
