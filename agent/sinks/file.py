# SPDX-License-Identifier: Apache-2.0
"""A file: the whole document, put in place in one step, for carrying by hand or collecting by other means."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Annotated

from msgspec import Meta, Struct

from agent import errors
from agent.document import Draft
from agent.sinks import Context, Receipt, Spec, whole_document


class Settings(Struct, frozen=True):
    """[sink.file]."""

    path: Annotated[str, Meta(pattern="^/.*[^/]$")]
    """Where the document goes. The directory must exist; an older document there is replaced."""


SPEC = Spec(settings=Settings, enrolled=False)


def send(draft: Draft, settings: Settings, context: Context) -> Receipt:
    """Write the document, 0600. A reader sees the old one or the new one, whole.

    Raises:
        ConfigError: the place cannot be written to, or holds something that is no file.
        StateError: the host's key is there and cannot be used.
    """
    data = whole_document(draft, context) + b"\n"
    directory, _, name = settings.path.rpartition("/")
    beside = f".{name}.new"
    try:
        parent = os.open(directory or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(settings.path, error) from error
    try:
        _check(name, parent, settings.path)
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=parent)
        # O_EXCL: in a directory that others can write to, a link of theirs must not be written through.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside, dir_fd=parent)
        raise _failed(settings.path, error) from error
    finally:
        os.close(parent)
    return Receipt(where=settings.path, outcome="written")


def _check(name: str, parent: int, path: str) -> None:
    """Renaming over a device or a link would take it away."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise errors.ConfigError(f"sink.file.path: {path} is there and is no file; name another")


def _failed(path: str, error: OSError) -> errors.ConfigError:
    return errors.ConfigError(
        f"cannot write the inventory to {path}: {(error.strerror or str(error)).lower()}"
    )
