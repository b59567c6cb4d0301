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
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from agent.host import Host, text
from agent.model import canonical
from agent.model.inventory import Entry
from agent.model.location import Location

# login.defs(5): UID_MIN and UID_MAX. Above lie systemd's dynamic users and nobody, who are no humans.
HUMAN_UIDS = range(1000, 60001)
# Homes that no line of /etc/passwd names (a directory service's users) are still homes.
_HOME = re.compile(r"((?:/var)?/home)/([^/]+)")
# 48 bits: with 100,000 users the chance of any two falling together is 2 in 100,000.
_PSEUDONYM_HEX = 12


class People:
    """Who lives on a host: its human users' names and home directories."""

    def __init__(self, homes: Mapping[str, str], names: Iterable[str]) -> None:
        self.homes = dict(sorted(homes.items(), key=lambda item: -len(item[0])))
        self.names = frozenset(names)

    @classmethod
    def of(cls, host: Host) -> People:
        """The people in the host's /etc/passwd."""
        homes = {home: uid for home, uid in host.homes().items() if uid in HUMAN_UIDS and home.count("/") > 1}
        return cls(
            {text(home): host.user(uid) for home, uid in homes.items()},
            {host.user(uid) for uid in homes.values()},
        )

    def split(self, path: str) -> tuple[str, str, str] | None:
        """(directory of the home, user, rest) of a path in a human's home, else None."""
        for home, name in self.homes.items():
            if path == home or path.startswith(home + "/"):
                return home.rpartition("/")[0], name, path[len(home) :]
        if match := _HOME.match(path):
            return match[1], match[2], path[match.end() :]
        return None


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
    """Entries with people hidden. Where that makes two keys one, equal entries merge, others are numbered."""
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
    out = []
    for key, same in by_key.items():
        distinct = sorted({canonical.encode(entry): entry for entry in same}.items())
        out.append(distinct[0][1])
        out += [
            msgspec.structs.replace(entry, key=f"{key} ({number})")
            for number, (_, entry) in enumerate(distinct[1:], 2)
        ]
    return out


_WORD_PATH = re.compile(r"/[^\s,;]+")


def redact_words(words: str, redaction: Redaction) -> str:
    """A sentence with the paths in it hidden (reasons and examples of coverage)."""
    return _WORD_PATH.sub(lambda match: redaction.path(match[0]), words)
