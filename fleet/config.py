# SPDX-License-Identifier: Apache-2.0
"""Where does the collector keep what, and on what terms does it serve?"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from fleet import errors

DATA_DEFAULT = Path("/var/lib/cryptofleet/collector")
DATA_ENV = "CRYPTOFLEET_DATA"
PORT_DEFAULT = 8443
# One post an hour finds a change within the hour and is, for 100,000 hosts, 28 posts a second.
NEXT_POST_S_DEFAULT = 3600
# An uploaded part that no state refers to is kept this long: far more than the minutes between an upload and
# its state.
LEASE_S = 24 * 3600
_LISTEN = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class DataDir:
    """The collector's directory and what lies where in it; all of it for the collector alone (0700, 0600)."""

    root: Path

    @property
    def database(self) -> Path:
        """The store."""
        return self.root / "fleet.db"

    @property
    def ca(self) -> Path:
        """The private CA: `ca.pem` and `ca.key`."""
        return self.root / "ca"

    @property
    def tls(self) -> Path:
        """The server's certificate and key, issued by that CA."""
        return self.root / "tls"

    @property
    def pseudonym_key(self) -> Path:
        """The fleet's key that hides human users' names in posts."""
        return self.root / "pseudonym.key"

    @property
    def lasting(self) -> tuple[Path, ...]:
        """What nobody could make again; the server's certificate can be."""
        return self.ca / "ca.pem", self.ca / "ca.key", self.pseudonym_key, self.database

    def create(self) -> None:
        """Make the directory, readable for its owner only.

        Raises:
            errors.ConfigError: it cannot be made, or is not ours alone to write to.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.ConfigError(
                f"cannot make the data directory {self.root}: {error.strerror}"
            ) from error
        self._check()

    def require(self) -> None:
        """Insist that `fleet serve --init` has been here.

        Raises:
            errors.ConfigError: it has not, or the directory is not ours alone to write to.
        """
        self._check()
        if not self.database.is_file():
            raise errors.ConfigError(
                f"{self.root} is not a collector's data directory (no {self.database.name}); "
                f"make one with `fleet serve --init --data {self.root}`, or use --data or {DATA_ENV}"
            )

    def _check(self) -> None:
        """Nobody else may put a key or a store of his own here. A directory that is missing passes."""
        try:
            found = self.root.stat()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise errors.ConfigError(
                f"cannot look at the data directory {self.root}: {error.strerror}; run as its owner"
            ) from error
        if os.geteuid() not in (0, found.st_uid):
            raise errors.ConfigError(
                f"{self.root} belongs to uid {found.st_uid} and this is uid {os.geteuid()}; run as its owner"
            )
        if stat.S_ISDIR(found.st_mode) and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise errors.ConfigError(
                f"{self.root} has mode {stat.S_IMODE(found.st_mode):04o}, so others can write to it;"
                f" look what they put there, then chmod 0700 {self.root}"
            )


def data_dir(path: str | os.PathLike[str] | None = None) -> DataDir:
    """The directory that was named, else the environment's, else the default."""
    return DataDir(Path(path or os.environ.get(DATA_ENV) or DATA_DEFAULT).absolute())


@dataclass(frozen=True)
class Listen:
    """An address to listen on: host without brackets, port 0 for any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. No name but localhost is trusted to mean that."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, scheme: str, port: int) -> str:
        """The URL a client on this address would use."""
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def parse_listen(text: str) -> Listen:
    """`HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        errors.UsageError: another form, or a port beyond 65535.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 0xFFFF:
        raise errors.UsageError(
            f"cannot listen on {text!r}; write HOST:PORT or [IPV6]:PORT, for example 0.0.0.0:{PORT_DEFAULT}"
        )
    return Listen(match["six"] or match["host"], int(match["port"]))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """On what terms `fleet serve` serves.

    Raises:
        errors.UsageError: plain HTTP beyond this machine, which would show tokens to the network.
    """

    data: DataDir
    listen: Listen = field(default_factory=lambda: Listen("0.0.0.0", PORT_DEFAULT))  # noqa: S104 - a collector is reached from elsewhere
    names: tuple[str, ...] = ()
    """DNS names and addresses that the server's certificate speaks for, besides this machine's own."""
    plain_http: bool = False
    next_post_s: int = NEXT_POST_S_DEFAULT
    lease_s: int = LEASE_S

    def __post_init__(self) -> None:
        if self.plain_http and not self.listen.is_loopback:
            raise errors.UsageError(
                "--plain-http is for 127.0.0.1, ::1 and localhost only, where a proxy ends TLS; "
                f"{self.listen.host} is none of them"
            )
