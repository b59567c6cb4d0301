# SPDX-License-Identifier: Apache-2.0
"""How does a document get into a file that somebody named? Whole or not at all, for its owner alone."""

from __future__ import annotations

import os
import tempfile

from agent import errors


def write_whole(path: str, data: bytes) -> None:
    """Put a document in place in one step: a reader sees the old one or the new one. Mode 0600.

    Raises:
        UsageError: the place cannot be written to, or is a directory or another thing that is no file.
    """
    path = os.path.abspath(path)
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise errors.UsageError(f"{path} is there and is no plain file; name another")
    directory = os.path.dirname(path)
    try:
        # mkstemp makes the file 0600 and follows no link; it lies beside the target, so renaming is one step.
        fd, beside = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise errors.UsageError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
