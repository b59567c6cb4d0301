# SPDX-License-Identifier: Apache-2.0
"""What does `fleet-agent status --format json` say? Its types, from which status.schema.json is made.

`python -m agent.model.status` writes the file beside this one; a test keeps the two equal. A key is never left out: what is
not known or does not apply is null.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

STATUS_VERSION = "1.0"
SCHEMA_PATH = Path(__file__).with_name("status.schema.json")

Works = Literal["fully", "partly", "not"]
Timestamp = Annotated[str, Meta(description="UTC with six digits and Z, by this host's clock.")]


class Own(Struct, kw_only=True, frozen=True):
    """This very process: what it was started as."""

    version: str
    user: Annotated[str, Meta(description="Login name, or uid:N.")]
    uid: Annotated[int, Meta(description="Effective.")]
    unit: Annotated[str | None, Meta(description="The systemd unit it is of.")]
    container: Annotated[str | None, Meta(description="The runtime whose container it is in, by its cgroup.")]
    sees_all_pids: Annotated[
        bool,
        Meta(description="False in a pid namespace of a container's: other processes do not exist there."),
    ]
    is_user_initial: Annotated[
        bool, Meta(description="False in a user namespace, whose capabilities hold only inside it.")
    ]
    no_new_privs: Annotated[
        bool, Meta(description="Nothing that it runs gains privileges: no sudo, no set-uid.")
    ]
    is_filtered: Annotated[bool, Meta(description="A seccomp filter decides about its system calls.")]


class Enrolment(Struct, kw_only=True, frozen=True):
    """Which host the collector knows this as."""

    state: Annotated[
        Literal["enrolled", "not_enrolled", "unknown"], Meta(description="unknown: `problem` says why.")
    ]
    host_id: str | None = None
    url: Annotated[str | None, Meta(description="The collector.")] = None
    since: Annotated[
        Timestamp | None, Meta(description="When it was kept, or a new CA of the collector's.")
    ] = None
    state_dir: Annotated[str, Meta(description="Where it is kept.")]
    problem: str | None = None


class Posts(Struct, kw_only=True, frozen=True):
    """What went to the collector, and what did not. All null where the state directory is closed to us."""

    seq: Annotated[int | None, Meta(description="The last number that was used.")] = None
    delivered_at: Annotated[Timestamp | None, Meta(description="The last post that arrived.")] = None
    outcome: Annotated[str | None, Meta(description="accepted, or unchanged.")] = None
    next_post_s: Annotated[
        int | None, Meta(description="When the collector wanted the next one, from then.")
    ] = None
    failed_at: Annotated[Timestamp | None, Meta(description="The last failure since then.")] = None
    failure: str | None = None
    is_waiting: Annotated[bool | None, Meta(description="Whether a state waits in the spool.")] = None
    losses: Annotated[dict[str, int], Meta(description="What the next post will tell as lost.")] = {}
    damaged: Annotated[tuple[str, ...], Meta(description="Files that are not whole.")] = ()


class Service(Struct, kw_only=True, frozen=True):
    """Other runs of the agent on this host, as far as we may see them."""

    run_pid: Annotated[int | None, Meta(description="The process of `fleet-agent run` in this place.")] = None
    scanning: Annotated[str | None, Meta(description="Who holds the lock of scans now.")] = None


class Switch(Struct, kw_only=True, frozen=True):
    """The operator's kill switch."""

    path: str
    reason: Annotated[
        str | None, Meta(description="Its first line; null: it is not there, the agent may work.")
    ] = None


class Configuration(Struct, kw_only=True, frozen=True):
    """The file of settings."""

    path: str
    is_there: bool
    problem: Annotated[str | None, Meta(description="Why commands that need it end with 1.")] = None


class Command(Struct, kw_only=True, frozen=True):
    """What would happen if it were run now, by this user, in this place."""

    works: Annotated[
        Works, Meta(description="partly: it runs, and what `missing` names is or may be hidden from it.")
    ]
    exit_code: Annotated[
        int, Meta(description="What it would end with; 0 is 6 with --strict where something is hidden.")
    ]
    missing: Annotated[tuple[str, ...], Meta(description="Names in `missing`, what stops it first.")]


class Missing(Struct, kw_only=True, frozen=True):
    """One thing that is missing, and what to do."""

    name: Annotated[
        str, Meta(description="A capability, or a word that stays the same from release to release.")
    ]
    commands: Annotated[dict[str, Works], Meta(description="The commands that it hinders.")]
    why: Annotated[tuple[str, ...], Meta(description="What was tried, and the kernel's answer.")]
    means: Annotated[tuple[str, ...], Meta(description="What is not seen, or does not work.")]
    remedy: Annotated[tuple[str, ...], Meta(description="Commands and unit lines, or why there is none.")]


class Capability(Struct, kw_only=True, frozen=True):
    """One capability of this process."""

    effective: bool
    bounding: Annotated[bool, Meta(description="False: nothing that is started from here can have it.")]
    ambient: Annotated[bool, Meta(description="Whether programs that it runs keep it.")]


class Tried(Struct, kw_only=True, frozen=True):
    """One thing that was tried, without changing anything."""

    what: str
    failure: Annotated[str | None, Meta(description="null: it worked.")]


class Status(Struct, kw_only=True, frozen=True):
    """What works here and what is missing."""

    status_version: str = STATUS_VERSION
    generated_at: Timestamp
    hostname: str
    kernel: str
    agent: Own
    enrolment: Enrolment
    posts: Posts
    service: Service
    switch: Switch
    configuration: Configuration
    commands: dict[str, Command]
    missing: Annotated[tuple[Missing, ...], Meta(description="What hinders most comes first.")]
    notes: Annotated[tuple[str, ...], Meta(description="What is as it must be, and good to know.")]
    capabilities: dict[str, Capability]
    settings: Annotated[
        dict[str, str], Meta(description="Settings of the kernel that bear on this; the attempts decide.")
    ]
    tried: dict[str, Tried]


def schema_text() -> str:
    """The published JSON Schema (2020-12) of the document."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:cryptofleet:schema:status:{STATUS_VERSION}",
        "title": "Cryptofleet agent status",
        **msgspec.json.schema(Status),
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text())
