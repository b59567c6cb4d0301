# SPDX-License-Identifier: Apache-2.0
"""How does what we print reach who asked for it? Whole or not at all, and a failure is told once."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress

from agent import errors
from agent.words import why

# Names of standard output. The second is a link, and its target may be a pipe, which no file replaces.
STANDARD = ("-", "/dev/stdout")


def open_standard_streams() -> None:
    """Put something where standard input, output or error were closed by who started us.

    Else the next file that is opened would get their number, and what is printed would go into it. What is
    written to standard output then fails, as it should; words for standard error go nowhere.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")


def put(data: bytes) -> None:
    """Write to standard output, at once.

    Raises:
        BrokenPipeError: the reader has gone, as `head` does; nobody's fault.
        OutputError: the disk behind it is full, or it is closed.
        KeyboardInterrupt: the reader does not read, and somebody did not want to wait for it.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, KeyboardInterrupt) as error:
        # What is still in the buffer has nowhere to go; Python would try again at exit, and complain or wait.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
            raise
        raise errors.OutputError(f"cannot write to standard output: {why(error)}") from error


def deliver(data: bytes, path: str | None) -> None:
    """One whole document to where somebody wants it: to standard output, or in place of a file.

    Args:
        path: None, or a name of standard output, or the file.

    Raises:
        BrokenPipeError, OutputError, UsageError: see `put` and `write_whole`.
    """
    if path is None or path in STANDARD:
        put(data)
    else:
        write_whole(path, data)


def write_whole(path: str, data: bytes) -> None:
    """Put a document in place in one step: a reader sees the old one or the new one. Mode 0600.

    Raises:
        UsageError: there is a directory, a link or another thing that is no file.
        OutputError: the place cannot be written to. What was there is as it was.
    """
    try:
        _write_whole(path, data)
    except OSError as error:
        raise errors.OutputError(f"cannot write {path}: {why(error)}") from error


def _write_whole(path: str, data: bytes) -> None:
    if path.endswith("/") or (os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path))):
        raise errors.UsageError(f"{path} is no plain file; name another")
    directory, name = os.path.split(os.path.abspath(path))
    # mkstemp makes a file of our own and follows no link; it lies beside the target, so renaming is one step.
    fd, beside = tempfile.mkstemp(prefix=".fleet-agent-", dir=directory)
    is_placed = False
    try:
        with os.fdopen(fd, "wb") as file:
            # A umask takes bits away from its owner too.
            os.fchmod(fd, 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, os.path.join(directory, name))
        is_placed = True
        _sync(directory)
    finally:
        if not is_placed:
            with suppress(OSError):
                os.unlink(beside)


def _sync(directory: str) -> None:
    """Have the new name on the disk, too (fsync(2)), where the directory may be read and can be asked."""
    with suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
