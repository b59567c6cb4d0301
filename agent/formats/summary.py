# SPDX-License-Identifier: Apache-2.0
"""A few lines of text, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from agent.words import plain

# A screen has 24 lines; each list leaves room for the others.
_TOP = 10
# Whoever may open files may invent names of files; what is beyond this is counted without its name.
_NAMES_MAX = 10_000


def snapshot(value: Any) -> bytes:  # noqa: ANN401 - a snapshot
    """Totals, then each section with its status and number of entries, and why it is not complete."""
    snapshot = msgspec.json.decode(msgspec.json.encode(value))
    sections = snapshot["inventory"]["manifest"]["sections"]
    parts = snapshot["inventory"]["parts"]
    host, kernel = plain(snapshot["hostname"]), plain(snapshot["kernel"] or "unknown")
    lines = [f"{host}, kernel {kernel}, {snapshot['generated_at']}"]
    lines += _totals(snapshot.get("summary", {}))
    for name, state in sections.items():
        entries = sum(len(parts[digest]) for digest in state["parts"].values())
        why = f" ({plain(state['reason'])})" if "reason" in state else ""
        lines.append(f"section {name}: {state['status']}, {entries} entries{why}")
    return _text(lines)


def profile(value: Any) -> bytes:  # noqa: ANN401 - a profile
    """The process, its statistics, its libraries and the files it used most."""
    profile = msgspec.json.decode(msgspec.json.encode(value))
    process = profile["process"]
    who = f"{plain(process['name'] or 'unknown')} (pid {process['pid']})"
    lines = [f"{who}, {profile['generated_at']}"]
    lines += _totals(profile["statistics"])
    lines += [f"library {plain(library['path'])}" for library in profile["libraries"]]
    files = Counter({file["path"]: file["access_count"] for file in profile["files_accessed"]})
    return _text(lines + _most("file", files))


class Stream:
    """Counts of all events, at the end."""

    # What is appended to it is another account, and text is text.
    is_whole = False

    def __init__(self) -> None:
        self._types: Counter[str] = Counter()
        self._processes: Counter[str] = Counter()
        self._libraries: Counter[str] = Counter()
        self._files: Counter[str] = Counter()

    def begin(self) -> bytes:
        """Nothing: there is nothing to count yet."""
        return b""

    def item(self, value: Any) -> bytes:  # noqa: ANN401 - any event
        """Nothing now; it is counted."""
        self._types[value["event_type"]] += 1
        _count(self._processes, value["process"])
        if "library" in value:
            _count(self._libraries, value["library"])
        if "file" in value:
            _count(self._files, value["file"])
        return b""

    def end(self) -> bytes:
        """Totals by type, then the processes, libraries and files that most of them were about."""
        lines = [f"events: {self._types.total()}"]
        lines += [f"{name}: {count}" for name, count in sorted(self._types.items())]
        lines += _most("process", self._processes)
        lines += _most("library", self._libraries)
        lines += _most("file", self._files)
        return _text(lines)


def _count(counts: Counter[str], name: str) -> None:
    counts[name if name in counts or len(counts) < _NAMES_MAX else "(others)"] += 1


def _totals(counts: Mapping[str, int]) -> list[str]:
    return [f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()]


def _most(what: str, counts: Counter[str]) -> list[str]:
    """The most frequent first; equal ones by name. How many more there are is said."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{what} {plain(name)}: {count}" for name, count in ranked[:_TOP]]
    left = len(ranked) - len(lines)
    return [*lines, f"{what}: {left} more"] if left else lines


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
