# SPDX-License-Identifier: Apache-2.0
"""How is a file written that nobody but its owner may ever have read?"""

from __future__ import annotations

import os
from pathlib import Path


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
