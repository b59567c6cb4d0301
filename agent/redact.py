# SPDX-License-Identifier: Apache-2.0
"""What may a reader learn about the people of a host? Human users' names are hidden last, after every filter.

Three ways: `Truth` (--no-redact), `Printed` (what the command line shows: /home/USER, /home/ROOT) and
`Pseudonyms` (what is posted: a keyed hash, so that two users never fall together and hosts stay comparable).
It is pseudonymisation, not anonymity: whoever holds the key can test a guess. Home directories and owners are
covered, and nothing else in a path.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from agent import errors
from agent.disk.walk import Walker
from agent.host import Host, text
from agent.model import canonical
from agent.model.inventory import Entry
from agent.model.location import Location

# login.defs(5): UID_MIN and UID_MAX. Above lie systemd's dynamic users and nobody, who are no humans.
HUMAN_UIDS = range(1000, 60001)
# Homes that no line of /etc/passwd names (a directory service's users) are still homes. Fedora's image-based
# hosts keep them below /var.
_PARENTS = ("/home", "/var/home")
# 48 bits: with 100,000 users the chance of any two falling together is 2 in 100,000.
_PSEUDONYM_HEX = 12


class People:
    """Who lives on a host: its human users' names and home directories."""

    def __init__(
        self, homes: Mapping[str, str], names: Iterable[str], parents: Iterable[str] = _PARENTS
    ) -> None:
        """Make ready.

        Args:
            homes: user names by home directory.
            names: of all human users.
            parents: directories in which every name is a user's.
        """
        self.homes = dict(sorted(homes.items(), key=lambda item: -len(item[0])))
        self.names = frozenset(names)
        self.parents = tuple(sorted(parents, key=lambda path: (-len(path), path)))

    @classmethod
    def of(cls, host: Host) -> People:
        """The people in the host's /etc/passwd, with their homes as written there and where these lead."""
        real = _resolver(host)
        homes: dict[str, str] = {}
        for home, uid in host.homes().items():
            # What stands at the top is no home, whatever that file says.
            if uid in HUMAN_UIDS:
                both = (path for path in (home, real(home)) if path.count("/") > 1)
                homes |= {text(path): host.user(uid) for path in both}
        names = {name for uid, name in host.users().items() if uid in HUMAN_UIDS}
        parents = {*_PARENTS, *(text(real(path)) for path in _PARENTS)}
        return cls(homes, names, parents - {"/"})

    def split(self, path: str) -> tuple[str, str, str] | None:
        """(directory of the home, user, rest) of a path in a human's home, else None."""
        for home, name in self.homes.items():
            if path == home or path.startswith(home + "/"):
                return home.rpartition("/")[0], name, path[len(home) :]
        for parent in self.parents:
            if path.startswith(parent + "/"):
                name, slash, rest = path[len(parent) + 1 :].partition("/")
                return (parent, name, slash + rest) if name else None
        return None


def _resolver(host: Host) -> Callable[[str], str]:
    """Paths with every link resolved; as they are where the mount table does not allow to ask."""
    try:
        resolve = Walker(host, lambda _reason, _path: None, 0).resolve
    except errors.HostError:
        return lambda path: path
    return lambda path: resolve(path) or path


class Redaction(Protocol):
    """One way to hide, or not to."""

    def path(self, path: str) -> str:
        """A path as the reader may see it."""
        ...

    def name(self, name: str) -> str:
        """A user's or group's name as the reader may see it."""
        ...


class Truth:
    """Nothing is hidden."""

    def path(self, path: str) -> str:
        """The path itself."""
        return path

    def name(self, name: str) -> str:
        """The name itself."""
        return name


class Printed:
    """The form that users' scripts know: /home/USER/rest and /home/ROOT/rest."""

    def __init__(self, people: People) -> None:
        self._people = people

    def path(self, path: str) -> str:
        """Homes become /home/USER, root's becomes /home/ROOT."""
        if path == "/root" or path.startswith("/root/"):
            return "/home/ROOT" + path[len("/root") :]
        split = self._people.split(path)
        return path if split is None else "/home/USER" + split[2]

    def name(self, name: str) -> str:
        """Human users become USER."""
        return "USER" if name in self._people.names else name


class Pseudonyms:
    """The form that is posted: `u-` and hex of HMAC-SHA-256 (RFC 2104) under the fleet's key."""

    def __init__(self, people: People, key: bytes) -> None:
        self._people = people
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(...)"

    def _pseudonym(self, name: str) -> str:
        return (
            "u-" + hmac.new(self._key, b"user:" + name.encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM_HEX]
        )

    def path(self, path: str) -> str:
        """The home's last component becomes the user's pseudonym."""
        split = self._people.split(path)
        return path if split is None else f"{split[0]}/{self._pseudonym(split[1])}{split[2]}"

    def name(self, name: str) -> str:
        """Human users become their pseudonym, the same as in paths."""
        return self._pseudonym(name) if name in self._people.names else name


def redact_location(where: Location, redaction: Redaction) -> Location:
    """The location with paths and names hidden."""

    def hide(value: str | None, way: Callable[[str], str]) -> str | None:
        return None if value is None else way(value)

    return msgspec.structs.replace(
        where,
        path=hide(where.path, redaction.path),
        exe=hide(where.exe, redaction.path),
        aliases=tuple(sorted(redaction.path(alias) for alias in where.aliases)),
        owner=hide(where.owner, redaction.name),
        group=hide(where.group, redaction.name),
    )


def redact_entries(entries: Iterable[Entry], redaction: Redaction) -> list[Entry]:
    """Entries with people hidden. Where that makes two keys one, equal entries merge, others are numbered.

    No key meets another, also where a file is called like a number of ours.
    """
    by_key: dict[str, list[Entry]] = {}
    for entry in entries:
        where = redact_location(entry.where, redaction)
        key = entry.key
        # A key is built of the location's own texts, so replacing these hides what the key holds, the longest
        # first.
        for raw in sorted({entry.where.path, entry.where.exe} - {None}, key=lambda value: -len(value or "")):
            if raw:
                key = key.replace(raw, redaction.path(raw))
        hidden = msgspec.structs.replace(entry, key=key, where=where)
        by_key.setdefault(key, []).append(hidden)
    taken = by_key.keys()
    out = []
    for key, same in sorted(by_key.items()):
        distinct = sorted({canonical.encode(entry): entry for entry in same}.items())
        out.append(distinct[0][1])
        names = (f"{key} ({number})" for number in itertools.count(2))
        free = (name for name in names if name not in taken)
        out += [
            msgspec.structs.replace(entry, key=name)
            for (_, entry), name in zip(distinct[1:], free, strict=False)
        ]
    return out


def redact_example(example: str, redaction: Redaction) -> str:
    """`reason: thing` of coverage; the thing is hidden as a path, spaces and all."""
    reason, colon, what = example.partition(": ")
    return f"{reason}{colon}{redaction.path(what)}"


_WORD_PATH = re.compile(r"/[^\s,;]+")


def redact_words(words: str, redaction: Redaction) -> str:
    """A sentence with the paths in it hidden (reasons of coverage)."""
    return _WORD_PATH.sub(lambda match: redaction.path(match[0]), words)
