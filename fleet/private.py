# SPDX-License-Identifier: Apache-2.0
"""How is a file written, and read again, that nobody but its owner may ever have read?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fleet import errors


def write(path: Path, data: bytes) -> None:
    """Put the bytes there with mode 0600, never open for others, the old file or the whole new one.

    Raises:
        OSError: as the system says it; nothing was changed.
    """
    # Beside its final place, so that the key never leaves the directory it belongs to; always the same name,
    # so that what a crash leaves is overwritten by the next attempt.
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(beside, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path) -> bytes:
    """The bytes of such a file.

    Raises:
        OSError: as the system says it.
        errors.ConfigError: its mode lets others at it, so that it may be a secret no more.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise errors.ConfigError(
                f"{path} has mode {mode:04o}, so others may have read or written it; chmod 0600 it if you"
                " know that they have not, else begin anew"
            )
        return file.read()
