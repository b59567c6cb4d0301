# SPDX-License-Identifier: Apache-2.0
"""What is one round of the agent? A look, what is remembered of others, and a document for every sink.

The service does each round in a process of its own, which ends with it (`attempt`): what a round imports and
remembers costs the host nothing between rounds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from agent import collect, config, discover, document, errors, memory, observe, redact, sinks
from agent import run as conductor
from agent.guard import guest, sandbox, supervise
from agent.host import Host
from agent.posting import backoff, enrolment, identity
from agent.posting.spool import Spool
from agent.serving.schedule import START_SPLAY_S_MAX, Kind, Report
from agent.serving.stop import Stop
from agent.sinks import Context, Receipt
from agent.state import StateDirectory

Tell = Callable[[str], None]
"""Is given one line for people."""
Flags = Mapping[str, object]
"""Settings from the command line, by dotted name."""

# For another run to end.
_LOCK_S = 60
# To compose a state, and to post it and its parts through a collector that drips.
_SEND_S = 600
# What decides when the next round is.
_KINDS: tuple[tuple[type[errors.AgentError], Kind], ...] = (
    (errors.UnreachableError, "unreachable"),
    (errors.BusyError, "busy"),
    (errors.DisabledError, "disabled"),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round is to do."""

    configured: config.Config
    chosen: Mapping[str, ModuleType]
    """Scanners by name."""
    is_background: bool = False
    """Nobody waits for it."""

    @property
    def round_s_max(self) -> int:
        """What a round may take."""
        settings = self.configured.settings
        return _LOCK_S + settings.budget.time_s + settings.window_s + _SEND_S


def plan(flags: Flags, page: config.Page | None = None, *, is_background: bool = False) -> Plan:
    """What the configuration asks for.

    Args:
        flags: as for `agent.config.load`.
        page: the configuration file.

    Raises:
        ConfigError, UsageError: it asks for what there is not.
    """
    configured = config.load(flags, page=page)
    return Plan(
        configured=configured,
        chosen=conductor.choose(configured.settings.scanners),
        is_background=is_background,
    )


# -- for the service, each in a process of its own -----------------------------------------------------------


def check(flags: Flags, page: config.Page) -> Report:
    """Whether rounds can be done as the configuration says, and when the first one is."""
    try:
        todo = plan(flags, page)
        with StateDirectory(todo.configured.settings.state_dir) as state:
            enrolled = enrolment.require(state)
            is_known = Spool(state, identity.ensure_key(state)).counts().seq > 0
    except errors.AgentError as error:
        return Report(kind="failed", words=str(error), exit_code=error.exit_code)
    interval_s = enrolled.next_post_s
    # A fleet that is restarted in one second keeps its spread; a host that is new is not kept waiting.
    delay_s = backoff.start_delay_s(enrolled.host_id, min(interval_s, START_SPLAY_S_MAX))
    return Report(
        kind="ready",
        interval_s=interval_s,
        start_delay_s=delay_s if is_known else 0,
        round_s_max=todo.round_s_max,
    )


def attempt(flags: Flags, page: config.Page, tell: Tell) -> Report:
    """One round of the service; what became of it is reported, and what more there is to say is told."""
    try:
        receipts = _attempt(plan(flags, page, is_background=True), tell)
    except errors.AgentError as error:
        kind: Kind = next((kind for leaf, kind in _KINDS if isinstance(error, leaf)), "failed")
        later = error.retry_after_s if isinstance(error, errors.UnreachableError) else None
        return Report(kind=kind, words=str(error), retry_after_s=later)
    except BrokenPipeError:
        return Report(kind="gone")
    if receipts is None:
        return Report(kind="stopped")
    return Report(
        kind="done",
        words="; ".join(receipt_words(receipt) for receipt in receipts),
        interval_s=next((receipt.next_post_s for receipt in receipts if receipt.next_post_s), None),
        is_rescan=any(receipt.rescan for receipt in receipts),
    )


def _attempt(todo: Plan, tell: Tell) -> Sequence[Receipt] | None:
    """None when somebody ended it.

    A host that shuts down does not wait for its collector: then what was seen in use is remembered, and the
    next start looks at the rest again.
    """
    settings = todo.configured.settings
    stopped = Stop()
    with sandbox.open_host() as host, StateDirectory(settings.state_dir) as state:
        # The service, which waits for us.
        host.note_relative(os.getppid())
        draft = look(todo, host, state, tell, stopped)
        if stopped.is_set():
            return None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        context = Context(host=host, collector=settings.collector, state=state)
        return send(draft, todo.configured, context, tell)


# -- the parts of a round ------------------------------------------------------------------------------------


def look(
    todo: Plan, host: Host, state: StateDirectory, tell: Tell, stopped: Stop | None = None
) -> document.Draft:
    """Scan, watch, remember what was seen in use, and compose the document with people hidden.

    Args:
        stopped: listens while the kernel is watched, and ends that early.

    Raises:
        DisabledError, BusyError: not now; see `agent.guard.guest`.
        StateError: the memory cannot be kept.
    """
    settings = todo.configured.settings
    with guest.admit(exclusive=True, wait_s=_LOCK_S, background=todo.is_background, tell=tell):
        outcomes = supervise.run_scanners(host, todo.chosen, settings.budget)
    if settings.window_s:
        if stopped is not None:
            stopped.listen()
        # A window is no scan: whoever wants one now need not wait for its end.
        with guest.admit(exclusive=False):
            outcomes[observe.SECTION] = observe.observe(
                host, settings.window_s, bool if stopped is None else stopped.is_set
            )
    # Read only now: `monitor` may have remembered something while we looked.
    with state.locked():
        remembered, complaint = memory.load(state)
        outcomes = collect.remember(outcomes, remembered, collect.today(host))
        memory.save(state, remembered)
    if complaint:
        tell(complaint)
    enrolled = enrolment.load(state)
    people = redact.People.of(host)
    return document.compose(
        host,
        outcomes,
        redact.Printed(people) if enrolled is None else redact.Pseudonyms(people, enrolled.pseudonym_bytes()),
        labels=settings.labels,
        pseudonym_key_id=None if enrolled is None else enrolled.pseudonym_key_id,
    )


def send(draft: document.Draft, configured: config.Config, context: Context, tell: Tell) -> Sequence[Receipt]:
    """Give the document to every sink; the others' fate is told where one fails.

    Raises:
        AgentError: the first failure, after every sink had its turn.
        BrokenPipeError: the same, when nothing else failed but standard output, whose reader has gone.
    """
    receipts: list[Receipt] = []
    failures: list[errors.AgentError] = []
    gone: BrokenPipeError | None = None
    for name, own in configured.sinks.items():
        try:
            receipts.append(discover.plugin(sinks, name).send(draft, own, context))
        except errors.AgentError as error:
            failures.append(error)
        except BrokenPipeError as error:
            gone = error
    # What can be tried again decides when the next round is; the others are told.
    failures.sort(key=lambda failure: not isinstance(failure, errors.UnreachableError))
    for later in failures[1:]:
        tell(str(later))
    if failures:
        raise failures[0]
    if gone is not None:
        for receipt in receipts:
            tell(receipt_words(receipt))
        raise gone
    return receipts


def receipt_words(receipt: Receipt) -> str:
    """What became of a document, for people."""
    words = [f"{receipt.outcome}: {receipt.where}"]
    if receipt.seq is not None:
        words.append(f"post {receipt.seq}")
    if receipt.clock_doubt:
        words.append(receipt.clock_doubt)
    return ", ".join(words)
