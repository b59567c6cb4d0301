# SPDX-License-Identifier: Apache-2.0
"""Sinks: one file per place that an inventory can go to.

The contract. A sink is a module in this folder; its file name is its name in configuration and on the command
line; the first sentence of its docstring is its help. It has

    SPEC = Spec(...)                                                    what it needs, and its own settings
    def send(draft: Draft, settings: Settings, context: Context) -> Receipt

It raises AgentErrors and no others (but BrokenPipeError, where it prints and the reader has gone); one sink
that fails does not keep the inventory from the next. Its settings are a frozen msgspec.Struct and come from
`sink.NAME.*` of the configuration, checked. Nothing else has to be edited to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from agent.document import Draft
from agent.host import Host
from agent.model import canonical
from agent.posting import enrolment, signing
from agent.posting.identity import load_key
from agent.posting.spool import Spool
from agent.settings import Collector
from agent.state import StateDirectory


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a sink is, without using it."""

    settings: type[Struct]
    """Its own settings; a field without a default has to be set."""
    enrolled: bool
    """Whether it needs an enrolled host. What it then sends is pseudonymised, numbered and signed."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every sink is given besides the inventory."""

    host: Host
    collector: Collector
    """The way to the collector: proxy and time limit."""
    state: StateDirectory | None = None
    """Where the agent keeps what is its own; None for a run that keeps nothing."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of an inventory. Getting one means that it is durable where it went."""

    where: str
    """For people: a URL, a path."""
    outcome: Literal["accepted", "unchanged", "written"]
    """unchanged: the collector had the same sections already."""
    seq: int | None = None
    """The number it went by, where it was numbered."""
    next_post_s: int | None = None
    """When the collector wants the next one."""
    rescan: bool = False
    """Whether the collector wants a new one at once."""
    clock_doubt: str | None = None
    """Words for people when this host's clock does not fit the collector's certificate."""


class Sink(Protocol):
    """The shape of a module in this folder."""

    SPEC: Spec

    def send(self, draft: Draft, settings: Any, context: Context) -> Receipt:  # noqa: ANN401 - one per sink
        """Take one inventory."""
        ...


def whole_document(draft: Draft, context: Context) -> bytes:
    """The document's canonical bytes for who gets it in one piece; signed where the host has a key.

    That of an enrolled host has a number as a post has: the collector takes it when it is brought by hand.

    Raises:
        StateError: there is a key, and it cannot be used.
    """
    key = None if context.state is None else load_key(context.state)
    if key is None or context.state is None:
        return canonical.encode(draft.sealed(canonical.encode(draft.manifest())))
    if enrolment.load(context.state) is None:
        manifest = canonical.encode(draft.manifest())
    else:
        seq = Spool(context.state, key).number()
        manifest = canonical.encode(draft.manifest(seq, key.host_id))
    return canonical.encode(draft.sealed(manifest, signing.sign_manifest(manifest, key)))
