# SPDX-License-Identifier: Apache-2.0
"""Which findings are new, resolved, still open or no longer known? Two assessments of one fleet.

A finding is the same one when host, policy, rule, section and entry key are. It is resolved only when the
later assessment could look and found nothing; where it could not look, the finding became unknown.

    before          after           called
    nothing         open            new
    open            nothing         resolved
    open            open            still-open
    open            unknown         became-unknown
    unknown         open, nothing   became-known (a thing that is gone or passes is told only if it was
                    unknown by name)
    nothing         unknown         became-unknown
    unknown         unknown         still-unknown
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from reports.assess import Assessment, Finding

ChangeName = Literal["new", "resolved", "still-open", "became-unknown", "became-known", "still-unknown"]
_Standing = Literal["open", "unknown", "nothing"]
_Place = tuple[str, str, str, str]
_Identity = tuple[_Place, str | None]
_NAMES: dict[tuple[_Standing, _Standing], ChangeName] = {
    ("nothing", "open"): "new",
    ("open", "nothing"): "resolved",
    ("open", "open"): "still-open",
    ("open", "unknown"): "became-unknown",
    ("nothing", "unknown"): "became-unknown",
    ("unknown", "open"): "became-known",
    ("unknown", "nothing"): "became-known",
    ("unknown", "unknown"): "still-unknown",
}


class FindingChange(Struct, frozen=True, kw_only=True):
    """What became of one finding.

    Attributes:
        change: its name in the table above.
        before: the finding in the earlier assessment; None when there was none there by this name.
        after: the same in the later one.
        because: why it stands as it does now, in words.
    """

    change: ChangeName
    before: Finding | None
    after: Finding | None
    because: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether it is a failure or a warning now."""
        return self.after is not None and self.after.verdict in {"fail", "warn"}

    @property
    def finding(self) -> Finding:
        """The later of the two, for its names and evidence."""
        found = self.after or self.before
        assert found is not None
        return found


def changes(before: Assessment, after: Assessment) -> tuple[FindingChange, ...]:
    """Every finding of either assessment, once, in the order of the later one and then of the earlier one."""
    # A host nobody knew before had no findings then; one that has left the fleet has not mended its own.
    old, new = _Side(before, "nothing"), _Side(after, "unknown")
    found: list[FindingChange] = []
    for identity in dict.fromkeys([*new.findings, *old.findings]):
        standing_before, _ = old.standing(identity)
        standing_after, because = new.standing(identity)
        found.append(
            FindingChange(
                change=_NAMES[standing_before, standing_after],
                before=old.findings.get(identity),
                after=new.findings.get(identity),
                because=because,
            )
        )
    return tuple(found)


class _Side:
    """One assessment, asked by identity."""

    def __init__(self, assessment: Assessment, stranger: _Standing) -> None:
        self.hosts = assessment.hosts
        self.stranger = stranger
        self.findings: dict[_Identity, Finding] = {
            _identity(finding): finding for finding in assessment.findings
        }

    def standing(self, identity: _Identity) -> tuple[_Standing, tuple[str, ...]]:
        """How a finding stands on this side, and why."""
        place, key = identity
        found = self.findings.get(identity)
        if found is not None:
            return ("unknown" if found.verdict == "unknown" else "open"), found.because
        whole = self.findings.get((place, None))
        if key is not None and whole is not None:
            return "unknown", whole.because
        if place[0] not in self.hosts:
            return self.stranger, ("the host is not in this assessment",)
        return "nothing", ("it is gone, or passes",)


def _identity(finding: Finding) -> _Identity:
    return (finding.host_id, finding.policy, finding.rule, finding.section), finding.key
