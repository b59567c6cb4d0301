# SPDX-License-Identifier: Apache-2.0
"""What is not known of a host? Sections that are not complete, with their reason, and its silence.

Silence is not health: whatever is here is carried to the last page of every report.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from agent.model import canonical
from reports.text import to_second
from reports.view import HostView

GapStatus = Literal["partial", "absent", "failed", "missing", "stale"]
# An agent posts about once an hour. A week without a post outlasts a long weekend and an announced absence;
# after it, what is stored says little about what is.
STALE_AFTER_DAYS = 7


class Gap(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that is not known.

    Attributes:
        host_id: of the host.
        host: its name.
        section: the section; None when it is the whole host.
        status: partial, absent and failed as the agent said; missing: the host never sent that section;
            stale: the host has not been heard of for too long, so nothing it said is believed to be true now.
        reason: the input's own words, else ours.
        examples: a few of the things that were not looked at.
    """

    host_id: str
    host: str
    section: str | None
    status: GapStatus
    reason: str
    examples: tuple[str, ...] = ()


def gaps(
    view: HostView, sections: Iterable[str], at: dt.datetime, stale_after_days: int = STALE_AFTER_DAYS
) -> list[Gap]:
    """What is not known of one host, the whole host first, then by section.

    Args:
        view: the host.
        sections: those that somebody asks about; others are not looked at.
        at: the moment against which its silence is measured.
        stale_after_days: how many days of silence are one too many.
    """
    found = [gap for section in sorted(set(sections)) if (gap := section_gap(view, section)) is not None]
    silence = stale_reason(view, at, stale_after_days)
    if silence is not None:
        found.insert(
            0, Gap(host_id=view.host_id, host=view.name, section=None, status="stale", reason=silence)
        )
    return found


def section_gap(view: HostView, section: str) -> Gap | None:
    """What is not known of one section; None when it is complete."""
    state = view.sections.get(section)
    if state is None:
        return Gap(
            host_id=view.host_id,
            host=view.name,
            section=section,
            status="missing",
            reason=f"the host has sent no section {section!r}",
        )
    if state.status == "complete":
        return None
    return Gap(
        host_id=view.host_id,
        host=view.name,
        section=section,
        status=state.status,
        reason=state.reason or "no reason given",
        examples=state.examples,
    )


def stale_reason(view: HostView, at: dt.datetime, stale_after_days: int) -> str | None:
    """Why what the host said is too old to be believed at that moment; None when it is not."""
    if view.last_seen is None:
        return "it has never posted"
    silence = at - canonical.parse_timestamp(view.last_seen)
    if silence <= dt.timedelta(days=stale_after_days):
        return None
    return f"last seen {to_second(view.last_seen)}, {silence.days} days before"
