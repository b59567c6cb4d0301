# SPDX-License-Identifier: Apache-2.0
"""Is a difference what differs, and nothing else?"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.model.asset import AnyAsset, TrustStore
from agent.model.inventory import SectionState, Status
from reports.compare import Difference, EntryChange, FieldChange, SectionChange, compare
from reports.view import HostView
from tests.reports.samples import SEEN, Fleet, certificate, entry, library, nothing, sha256, use

OLD = certificate(not_after="2026-12-01T00:00:00.000000Z", serial="0a")
NEW = certificate(not_after="2027-12-01T00:00:00.000000Z", serial="0b")


def only(difference: Difference) -> EntryChange:
    """The one entry that differs."""
    (section,) = difference.sections
    (change,) = section.entries
    return change


def test_equal_views_are_equal_without_opening_a_part(fleet: Fleet) -> None:
    """Digests first."""
    section = fleet.section(entry("/a", OLD))

    difference = compare(fleet.host("a", libraries=section), fleet.host("b", libraries=section), fleet.load)

    assert difference.sections == ()
    assert not fleet.opened


def test_only_the_part_that_differs_is_opened(fleet: Fleet) -> None:
    """One local certificate must not make the 140 of a package be read."""
    vendor = (entry("/usr/share/x.crt", OLD),)
    before, after = (
        fleet.section(entry("/a", OLD), vendor=vendor),
        fleet.section(entry("/a", NEW), vendor=vendor),
    )

    difference = compare(
        fleet.host("a", certificates=before), fleet.host("a", certificates=after), fleet.load
    )

    assert only(difference).key == "/a"
    assert before.parts.vendor not in fleet.opened


def test_the_same_key_with_other_content_is_changed_field_by_field(fleet: Fleet) -> None:
    """A renewed certificate is one change, not one removed and one added."""
    before = fleet.section(entry("/a", OLD, mode="0644"))
    after = fleet.section(entry("/a", NEW, mode="0600"))

    change = only(
        compare(fleet.host("a", certificates=before), fleet.host("a", certificates=after), fleet.load)
    )

    assert (change.change, change.kind, change.certain) == ("changed", "drift", True)
    assert [field.field for field in change.fields] == [
        "asset.not_after",
        "asset.serial",
        "asset.sha256",
        "where.mode",
    ]
    assert change.fields[3] == FieldChange(field="where.mode", before="0644", after="0600")


def test_a_thing_that_a_package_takes_over_is_changed_not_removed_and_added(fleet: Fleet) -> None:
    """Vendor and local are halves of one section; a move between them is a matter of packaging."""
    before, after = fleet.section(entry("/a", OLD)), fleet.section(vendor=(entry("/a", OLD),))

    change = only(
        compare(fleet.host("a", certificates=before), fleet.host("a", certificates=after), fleet.load)
    )

    assert change.change == "changed"
    assert change.fields == (FieldChange(field="origin", before="local", after="vendor"),)


def test_a_failed_section_has_not_lost_its_entries(fleet: Fleet) -> None:
    """That nobody could look is the news; 140 removed certificates would be a lie."""
    before = fleet.section(entry("/a", OLD))
    after = nothing(status="failed", reason="out of memory")

    (section,) = compare(
        fleet.host("a", certificates=before), fleet.host("a", certificates=after), fleet.load
    ).sections

    assert section.entries == ()
    assert not section.compared
    assert section.coverage_differs


def test_what_a_partial_side_lacks_is_not_certain(fleet: Fleet) -> None:
    """It may be there and not be seen."""
    before = fleet.section(entry("/a", OLD), entry("/b", OLD))
    after = fleet.section(entry("/b", NEW), entry("/c", OLD), status="partial", reason="1 not permitted")

    (section,) = compare(
        fleet.host("a", certificates=before), fleet.host("a", certificates=after), fleet.load
    ).sections

    assert [(change.key, change.change, change.certain) for change in section.entries] == [
        ("/a", "removed", False),
        ("/b", "changed", True),
        ("/c", "added", True),
    ]


def test_what_was_seen_in_use_is_usage_and_no_drift(fleet: Fleet) -> None:
    """A process that ran yesterday and not today has changed nothing on the host."""
    before, after = fleet.section(entry("nginx", use()), sampled=True), fleet.section(sampled=True)

    assert only(compare(fleet.host("a", p=before), fleet.host("a", p=after), fleet.load)).kind == "usage"


def test_a_new_detector_explains_differences_in_reading(fleet: Fleet) -> None:
    """An update of the agent must not set off a thousand alarms."""
    # Given the same library, read by a detector that has learnt its soname, and an entry the old one never
    # saw
    before = fleet.section(entry("/lib/x", library()))
    after = fleet.section(
        entry("/lib/x", library(soname="libcrypto.so.3")), entry("/lib/y", library()), detector=2
    )

    (section,) = compare(
        fleet.host("a", libraries=before), fleet.host("a", libraries=after), fleet.load
    ).sections

    assert [(change.key, change.kind) for change in section.entries] == [
        ("/lib/x", "reinterpreted"),
        ("/lib/y", "reinterpreted"),
    ]


def test_a_new_detector_does_not_explain_another_file(fleet: Fleet) -> None:
    """A certificate exchanged during a roll-out of agents is still exchanged."""
    before, after = fleet.section(entry("/a", OLD)), fleet.section(entry("/a", NEW), detector=2)

    assert only(compare(fleet.host("a", c=before), fleet.host("a", c=after), fleet.load)).kind == "drift"


def test_a_detector_step_with_the_same_content_is_no_difference(fleet: Fleet) -> None:
    """Only what is found counts."""
    before, after = fleet.section(entry("/a", OLD)), fleet.section(entry("/a", OLD), detector=2)

    assert compare(fleet.host("a", c=before), fleet.host("a", c=after), fleet.load).sections == ()


def test_a_trust_store_that_gained_a_member_is_one_change(fleet: Fleet) -> None:
    """A bundle is one entry."""
    one, two = sha256("1"), sha256("2")
    before = fleet.section(entry("/etc/b.crt", TrustStore(format="pem-bundle", members=(one,))))
    after = fleet.section(
        entry("/etc/b.crt", TrustStore(format="pem-bundle", members=(one, two), added=(two,)))
    )

    change = only(compare(fleet.host("a", c=before), fleet.host("a", c=after), fleet.load))

    assert [(field.field, field.before, field.after) for field in change.fields] == [
        ("asset.added", None, (two,)),
        ("asset.members", (one,), (one, two)),
    ]


def test_two_hosts_that_could_not_be_looked_at_are_not_equal(fleet: Fleet) -> None:
    """Nothing differs between two things nobody saw; that is no health."""
    one, other = fleet.host("a", c=nothing("failed", "x")), fleet.host("b", c=nothing("failed", "x"))

    difference = compare(one, other, fleet.load)

    assert difference.sections == ()
    assert difference.equal == "unknown"


def test_equal_says_no_only_for_what_differs_for_certain(fleet: Fleet) -> None:
    """A new detector, or a side that may not have seen it, is a doubt and not a difference."""
    old, new = fleet.section(entry("/a", OLD)), fleet.section(entry("/a", NEW))
    empty = fleet.section(status="partial")
    reread = fleet.section(entry("/a", OLD), entry("/b", OLD), detector=2)

    def equal(before: SectionState, after: SectionState) -> str:
        return compare(fleet.host("a", c=before), fleet.host("a", c=after), fleet.load).equal

    assert equal(old, old) == "yes"
    assert equal(old, new) == "no"
    assert equal(old, empty) == "unknown"
    assert equal(old, reread) == "unknown"


ASSETS: st.SearchStrategy[AnyAsset] = st.sampled_from(
    [OLD, NEW, library(), library("1.1.1"), library(soname="x"), use()]
)
ENTRIES = st.dictionaries(st.sampled_from(["/a", "/b", "/c"]), st.tuples(ASSETS, st.booleans()), max_size=3)
STATUSES: st.SearchStrategy[Status] = st.sampled_from(["complete", "complete", "partial", "failed", "absent"])


@st.composite
def views(draw: st.DrawFn, fleet: Fleet, name: str) -> HostView:
    """A host with up to two sections in any state."""
    sections: dict[str, SectionState] = {}
    for section in draw(st.sets(st.sampled_from(["one", "two"]))):
        status = draw(STATUSES)
        found = draw(ENTRIES) if status in {"complete", "partial"} else {}
        sections[section] = fleet.section(
            *(entry(key, asset) for key, (asset, vendor) in found.items() if not vendor),
            vendor=tuple(entry(key, asset) for key, (asset, vendor) in found.items() if vendor),
            status=status,
            reason=None if status == "complete" else "because",
            sampled=section == "two",
            detector=draw(st.integers(1, 2)),
        )
    return fleet.host(name, SEEN, **sections)


def mirrored(difference: Difference) -> Difference:
    """The same difference seen from the other side."""
    turned = {"added": "removed", "removed": "added", "changed": "changed"}

    def field(change: FieldChange) -> FieldChange:
        return msgspec.structs.replace(change, before=change.after, after=change.before)

    def one(change: EntryChange) -> EntryChange:
        return msgspec.structs.replace(
            change,
            change=turned[change.change],
            before=change.after,
            after=change.before,
            fields=tuple(field(f) for f in change.fields),
        )

    def section(change: SectionChange) -> SectionChange:
        entries = tuple(one(e) for e in change.entries)
        return msgspec.structs.replace(change, before=change.after, after=change.before, entries=entries)

    return Difference(
        before=difference.after,
        after=difference.before,
        sections=tuple(section(s) for s in difference.sections),
    )


@given(st.data())
def test_a_view_does_not_differ_from_itself(data: st.DataObject) -> None:
    """compare(a, a) is empty."""
    fleet = Fleet()
    view = data.draw(views(fleet, "a"))

    assert compare(view, view, fleet.load).sections == ()


@given(st.data())
def test_a_difference_seen_from_the_other_side_is_its_mirror(data: st.DataObject) -> None:
    """Neither side is favoured."""
    fleet = Fleet()
    one, other = data.draw(views(fleet, "a")), data.draw(views(fleet, "b"))

    assert mirrored(compare(one, other, fleet.load)) == compare(other, one, fleet.load)


@given(st.data())
def test_a_difference_names_exactly_the_entries_that_differ(data: st.DataObject) -> None:
    """Against a naive comparison of everything, where both sides could be seen."""
    fleet = Fleet()
    one, other = data.draw(views(fleet, "a")), data.draw(views(fleet, "b"))
    named = {
        (section.section, change.key)
        for section in compare(one, other, fleet.load).sections
        for change in section.entries
    }

    def everything(view: HostView, section: str) -> dict[str, Any] | None:
        state = view.sections.get(section)
        if state is None or state.status in {"failed", "absent"}:
            return None
        return {
            e.key: (origin, e)
            for origin, part in (("v", state.parts.vendor), ("l", state.parts.local))
            if part
            for e in fleet.load(part)
        }

    expected = set()
    for section in ("one", "two"):
        left, right = everything(one, section), everything(other, section)
        if left is not None and right is not None:
            keys = left.keys() | right.keys()
            expected |= {(section, key) for key in keys if left.get(key) != right.get(key)}
    assert named == expected
