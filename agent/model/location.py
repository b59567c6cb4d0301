# SPDX-License-Identifier: Apache-2.0
"""Where does an asset stand, and in what circumstance? Never part of an asset's identity."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Package(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The distribution package that owns a file."""

    manager: Annotated[str, Meta(description="dpkg or rpm.")]
    name: Annotated[str, Meta(description="Binary package name.")]
    version: Annotated[
        str | None, Meta(description="Full version with epoch and release, as the manager writes it.")
    ] = None


class Location(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """Where an entry was found. Names that are not UTF-8 carry the reversible escape of `canonical.escape_bytes`."""

    path: Annotated[str | None, Meta(description="Real path of the file.")] = None
    aliases: Annotated[
        tuple[str, ...], Meta(description="Other names of the same file: symbolic and hard links, sorted.")
    ] = ()
    owner: Annotated[str | None, Meta(description="Owner's name, else uid:N.")] = None
    group: Annotated[str | None, Meta(description="Group's name, else gid:N.")] = None
    mode: Annotated[str | None, Meta(description="Permission bits in four octal digits.")] = None
    package: Annotated[Package | None, Meta(description="Owner among distribution packages.")] = None
    exe: Annotated[str | None, Meta(description="Executable of the process that uses it.")] = None
    unit: Annotated[str | None, Meta(description="systemd unit of that process.")] = None
    container: Annotated[
        str | None, Meta(description="Container runtime and image, where the process is in one.")
    ] = None
