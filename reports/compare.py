# SPDX-License-Identifier: Apache-2.0
"""What differs between two hosts, or one host then and now? Only parts that differ are opened.

Three kinds of difference are told apart:

    drift           a state section says something else: something on the host is different
    usage           a sampled section does: something else was seen in use
    reinterpreted   the two sides were read by different versions of a detector, and that alone may explain
                    the difference

A side that could not look has not lost its entries: where one side is failed, absent or missing, nothing is
compared and the two statuses are shown instead. Where one side is partial, what only the other side has is
shown as not certain.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from agent.model.inventory import Entry, SectionState
from reports.view import HostView, Loader, Origin, parts_of

Class = Literal["drift", "usage", "reinterpreted"]
Change = Literal["added", "removed", "changed"]
Equality = Literal["yes", "no", "unknown"]
# Fields in which an asset's identity lies, whatever its kind. Where they differ, the thing is another one,
# and no new way of reading explains that.
_IDENTITY = ("sha256", "spki_sha256", "build_id", "members")


class FieldChange(Struct, frozen=True, kw_only=True):
    """One field that differs.

    Attributes:
        field: its path, for example asset.not_after; `origin` is vendor or local, which is a matter of
            packaging.
        before: JSON value, None when it is not stated.
        after: the same of the other side.
    """

    field: str
    before: Any
    after: Any


class EntryChange(Struct, frozen=True, kw_only=True):
    """One entry that differs.

    Attributes:
        key: of the entry, the same on both sides.
        change: added, removed or changed, seen from before to after.
        kind: drift, usage or reinterpreted.
        certain: False when the side that lacks it was partial and may only not have seen it.
        fields: what changed; empty when it was added or removed.
        before: the entry; None when it was added.
        after: the entry; None when it was removed.
    """

    key: str
    change: Change
    kind: Class
    certain: bool
    fields: tuple[FieldChange, ...]
    before: Entry | None
    after: Entry | None


class SectionChange(Struct, frozen=True, kw_only=True):
    """One section that differs in content or in how far the scan got.

    Attributes:
        section: its name.
        sampled: whether its differences are usage.
        before: status, reason and detector; None when that side never sent the section.
        after: the same of the other side.
        compared: whether both sides could be read, so that `entries` says everything.
        entries: by key.
    """

    section: str
    sampled: bool
    before: SectionState | None
    after: SectionState | None
    compared: bool
    entries: tuple[EntryChange, ...]

    @property
    def coverage_differs(self) -> bool:
        """Whether the two sides got differently far."""
        return _coverage(self.before) != _coverage(self.after)


class Difference(Struct, frozen=True, kw_only=True):
    """Everything that differs between two views, by section; empty when nothing does."""

    before: HostView
    after: HostView
    sections: tuple[SectionChange, ...]

    @property
    def equal(self) -> Equality:
        """Whether the two are equal.

        no: something differs for certain. unknown: nothing does, but a side did not see everything, or only a
        new detector saw something else; two hosts that both could not be looked at are not equal.
        """
        changes = [change for section in self.sections for change in section.entries]
        if any(change.kind != "reinterpreted" and change.certain for change in changes):
            return "no"
        asked = set(self.before.sections) | set(self.after.sections)
        states = [side.sections.get(name) for side in (self.before, self.after) for name in asked]
        if changes or any(state is None or state.status != "complete" for state in states):
            return "unknown"
        return "yes"


def compare(before: HostView, after: HostView, load: Loader) -> Difference:
    """The difference of two views, of one host or of two.

    Args:
        before: what is seen as the older side, or the first host.
        after: the newer side, or the second host.
        load: opens parts of either.
    """
    names = sorted(set(before.sections) | set(after.sections))
    found = (_section(name, before.sections.get(name), after.sections.get(name), load) for name in names)
    return Difference(
        before=before, after=after, sections=tuple(change for change in found if change is not None)
    )


def _section(
    name: str, before: SectionState | None, after: SectionState | None, load: Loader
) -> SectionChange | None:
    entries: tuple[EntryChange, ...] = ()
    sampled = any(side.sampled for side in (before, after) if side is not None)
    compared = _was_read(before) and _was_read(after)
    if before is not None and after is not None and compared and before.parts != after.parts:
        entries = _entries(before, after, load, sampled=sampled)
    change = SectionChange(
        section=name, sampled=sampled, before=before, after=after, compared=compared, entries=entries
    )
    return change if entries or change.coverage_differs else None


def _was_read(side: SectionState | None) -> bool:
    return side is not None and side.status in {"complete", "partial"}


def _coverage(side: SectionState | None) -> tuple[str, str | None]:
    return ("missing", None) if side is None else (side.status, side.reason)


def _entries(
    before: SectionState, after: SectionState, load: Loader, *, sampled: bool
) -> tuple[EntryChange, ...]:
    # A part that is the same on both sides holds the same entries: none of them can have moved elsewhere.
    was, now = parts_of(before), parts_of(after)
    old = _opened([part for part in was if part not in now], load)
    new = _opened([part for part in now if part not in was], load)
    same_detector = before.detector == after.detector
    plain: Class = "usage" if sampled else "drift"
    found: list[EntryChange] = []
    for key in sorted(set(old) | set(new)):
        was_there, is_there = old.get(key), new.get(key)
        if was_there == is_there:
            continue
        kind = plain if same_detector or _is_another(was_there, is_there) else "reinterpreted"
        found.append(
            _entry(key, was_there, is_there, kind, certain=_certain(was_there, is_there, before, after))
        )
    return tuple(found)


def _opened(parts: list[tuple[Origin, str]], load: Loader) -> dict[str, tuple[Origin, Entry]]:
    return {entry.key: (origin, entry) for origin, digest in parts for entry in load(digest)}


def _is_another(before: tuple[Origin, Entry] | None, after: tuple[Origin, Entry] | None) -> bool:
    """Whether both sides state an identity and it is not the same one."""
    if before is None or after is None:
        return False
    pairs = [
        (getattr(before[1].asset, name, None), getattr(after[1].asset, name, None)) for name in _IDENTITY
    ]
    return any(one is not None and other is not None and one != other for one, other in pairs)


def _certain(
    before: tuple[Origin, Entry] | None,
    after: tuple[Origin, Entry] | None,
    state_before: SectionState,
    state_after: SectionState,
) -> bool:
    if before is None:
        return state_before.status == "complete"
    return after is not None or state_after.status == "complete"


def _entry(
    key: str,
    before: tuple[Origin, Entry] | None,
    after: tuple[Origin, Entry] | None,
    kind: Class,
    *,
    certain: bool,
) -> EntryChange:
    if before is None or after is None:
        return EntryChange(
            key=key,
            change="added" if before is None else "removed",
            kind=kind,
            certain=certain,
            fields=(),
            before=before[1] if before else None,
            after=after[1] if after else None,
        )
    fields = list(_fields(msgspec.to_builtins(before[1]), msgspec.to_builtins(after[1]), ""))
    if before[0] != after[0]:
        fields.append(FieldChange(field="origin", before=before[0], after=after[0]))
    return EntryChange(
        key=key,
        change="changed",
        kind=kind,
        certain=certain,
        fields=tuple(sorted(fields, key=lambda change: change.field)),
        before=before[1],
        after=after[1],
    )


def _fields(before: Any, after: Any, path: str) -> list[FieldChange]:  # noqa: ANN401 - any JSON value
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[FieldChange] = []
        for name in sorted(set(before) | set(after)):
            inner = f"{path}.{name}" if path else name
            found += _fields(before.get(name), after.get(name), inner)
        return found
    return [] if before == after else [FieldChange(field=path, before=before, after=after)]
