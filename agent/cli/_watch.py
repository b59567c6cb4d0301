# SPDX-License-Identifier: Apache-2.0
"""How does a command that watches run? Attach, show every event that was asked for, and account for the rest.

`monitor`, `files` and `libs` differ in the probes that they attach, and in nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from agent import cli, errors, formats, memory, observe
from agent.collect import today
from agent.guard import guest, sandbox
from agent.host import Host
from agent.kernel import preflight
from agent.kernel.probes import Event
from agent.kernel.source import ProbeStats
from agent.printing import events
from agent.printing.classify import FileTypes
from agent.printing.loaded import Loaded
from agent.printing.selection import Selection
from agent.printing.stream import Output
from agent.redact import People, Printed, Redaction, Truth
from agent.scanners import Scan
from agent.state import StateDirectory

# Who presses Ctrl-C again after this time does not want to wait for a slow reader any longer.
_PATIENCE_S = 1.0


class Stop:
    """Whether it shall end: by Ctrl-C or SIGTERM, or because the terminal or the reader has gone."""

    def __init__(self) -> None:
        self.is_set = False
        self.is_unread = False
        """Nobody reads what is printed any more; to end then is no failure, and nothing to talk about."""
        self._since_s = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises KeyboardInterrupt for a second, impatient Ctrl-C."""
        now_s = time.monotonic()
        if self.is_set and number == signal.SIGINT and now_s - self._since_s > _PATIENCE_S:
            raise KeyboardInterrupt
        if not self.is_set:
            self.is_set, self._since_s = True, now_s


class _Seen(NamedTuple):
    """What a watch leaves."""

    scan: Scan | None
    """What file opens fold into, where that is remembered."""
    stats: tuple[ProbeStats, ...]
    refused: dict[str, str]
    """What could not be attached, and why."""
    shown: Counter[str]
    """How many events were shown, by type."""
    unrecognised: tuple[str, ...]
    """How many loads nothing is known of, and why."""


@contextmanager
def _signals(stop: Stop, output: Output) -> Iterator[None]:
    """While in it, signals end the watch in good order, and SIGHUP has the file opened anew."""
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: stop.handle,
        signal.SIGTERM: stop.handle,
    }
    if output.is_file:
        handlers[signal.SIGHUP] = lambda *_: output.ask_to_reopen()
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup(1) has it ignored
        handlers[signal.SIGHUP] = stop.handle
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _reader(stop: Stop) -> Iterator[None]:
    """While in it, a reader that goes ends the watch."""
    try:
        yield
    except BrokenPipeError:
        stop.is_unread = True


def run(args: argparse.Namespace, probes: Iterable[str]) -> int:
    """Watch by these probes until the time is over or somebody ends it.

    Args:
        args: what `_options` has put there.
        probes: their names; of them, those are attached whose events can match the filters.
    """
    selection = Selection.of(args)
    wanted = _wanted(probes, selection)
    if args.follow_children and args.pid is None:
        raise errors.UsageError("--follow-children needs --pid: the process whose children are meant")
    state_dir = _state_dir(args, wanted)
    output = Output(formats.stream(args.format), args.output, is_empty=args.overwrite)
    stop = Stop()
    with _signals(stop, output), sandbox.open_host() as host, guest.admit(exclusive=False):
        seen = _watch(args, host, wanted, _Show(selection, output, stop), is_kept=state_dir is not None)
        if not args.quiet and not stop.is_unread:
            cli.say(_account(seen))
        if state_dir is not None and seen.scan is not None:
            _remember(state_dir, host, seen.scan)
    is_lossy = any(one.unseen or one.refused for one in seen.stats)
    is_partial = bool(seen.refused or seen.unrecognised) or is_lossy
    return errors.EXIT_PARTIAL if args.strict and is_partial else errors.EXIT_COMPLETE


def _state_dir(args: argparse.Namespace, wanted: Iterable[str]) -> str | None:
    """Where to remember the files that are seen in use; None for nowhere.

    Only where this host is part of a fleet: a look by hand leaves nothing behind. And only a look at the
    whole host tells what is in use on it.
    """
    if observe.PROBE not in wanted or args.pid is not None:
        return None
    state_dir = cli.load_config(args, {}).settings.state_dir
    return state_dir if os.path.isdir(state_dir) else None


def _wanted(probes: Iterable[str], selection: Selection) -> tuple[str, ...]:
    """Probes whose events can be what was asked for: others would cost the host and show nothing."""
    wanted = set(probes)
    if selection.library is not None:
        wanted &= events.types_with("library")
    if selection.file is not None:
        wanted &= events.types_with("file")
    if not wanted:
        raise errors.UsageError("no event is about a library and a file; give --library or --file")
    return tuple(sorted(wanted))


class _Show:
    """Shows what was asked for, and counts it by type."""

    def __init__(self, selection: Selection, output: Output, stop: Stop) -> None:
        self.counts: Counter[str] = Counter()
        self.output = output
        self.stop = stop
        self._selection = selection

    def through(self, printer: events.Printer) -> Callable[[Event], None]:
        """Show one event, as this prints it."""

        def show(event: Event) -> None:
            if self.stop.is_unread or not self._selection.matches(
                pid=event.pid,
                process=event.process,
                library=getattr(event, "library", None),
                file=getattr(event, "file", None),
            ):
                return
            document = printer.document(event)
            if document is not None:
                with _reader(self.stop):
                    self.output.show(document)
                self.counts[document["event_type"]] += 1

        return show

    def is_over(self) -> bool:
        """Whether it shall end; asked at each look, which is the moment to change files, too."""
        complaint = self.output.reopen_if_asked()
        if complaint:
            cli.say(complaint)
        if self.output.is_reader_gone():
            self.stop.is_unread = True
        return self.stop.is_set or self.stop.is_unread


def _watch(
    args: argparse.Namespace, host: Host, wanted: tuple[str, ...], shown: _Show, *, is_kept: bool
) -> _Seen:
    """The window, from the first event to the account."""
    redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
    with observe.open_watch(
        host, args.duration or None, is_folding=False, probes=wanted, pid=args.pid,
        is_following=args.follow_children,
    ) as watch:  # fmt: skip
        watch.stop_when(shown.is_over)
        libraries = Loaded(host, watch.disregard)
        files = FileTypes(host)
        printer = events.Printer(
            host, redaction, placement=watch.placement, file_kind=files.of, library=libraries.of
        )
        if not args.quiet:
            _announce(args, host, watch, wanted)
        show = shown.through(printer)
        scan = None
        with _reader(shown.stop):
            shown.output.begin()
        if is_kept:
            scan = watch.scan(show)
        else:
            watch.show(show)
        if not shown.stop.is_unread:
            with _reader(shown.stop):
                shown.output.end()
        return _Seen(
            scan, watch.stats(), watch.refused, shown.counts, (*libraries.unrecognised(), *files.unread())
        )


def _announce(args: argparse.Namespace, host: Host, watch: observe.Watch, wanted: tuple[str, ...]) -> None:
    """What is watched from now on, and what is not though it was asked for."""
    at_work = [name for name in wanted if name not in watch.refused]
    until = f"for {args.duration} s" if args.duration else "until Ctrl-C"
    cli.say(f"watching {', '.join(at_work)} {until}")
    for name, reason in sorted(watch.refused.items()):
        cli.say(f"{name} is not watched: {reason}")
    if preflight.own_pid_namespace(host) != preflight.ALL_PID_NAMESPACES:
        cli.say("this is a container (a pid namespace of its own): only its own processes are seen")
    if args.pid is not None and not host.exists(f"/proc/{args.pid}"):
        cli.say(f"there is no process {args.pid} at the moment")
    if not args.verbose:
        return
    for stats in watch.stats():
        cli.say(f"{stats.probe}: by {stats.rung}: {', '.join(stats.attached)}")
        for program, reason in sorted(stats.refused.items()):
            cli.say(f"{stats.probe}: not {program}: {reason}")
    asked = {name: getattr(args, name, None) for name in ("pid", "name", "library", "file")}
    given = [f"--{name} {value}" for name, value in asked.items() if value is not None]
    cli.say(f"shown is what matches all of: {', '.join(given)}" if given else "everything is shown")


def _account(seen: _Seen) -> str:
    """One line: what was shown of how much, what was lost, by which method.

    Of loads nearly all are none of cryptography: they are looked at and not shown. Those that could not be
    looked at are told apart.
    """
    told = [
        f"{one.probe}: {seen.shown[one.probe]} shown of {one.delivered}, {one.unseen} lost"
        for one in seen.stats
    ]
    methods = sorted({one.rung for one in seen.stats})
    return "; ".join([*told, *seen.unrecognised, f"method: {', '.join(methods)}"])


def _remember(state_dir: str, host: Host, scan: Scan) -> None:
    """Keep what was seen in use for the next document."""
    try:
        with StateDirectory(state_dir) as state, state.locked():
            remembered, complaint = memory.load(state)
            remembered.see(observe.SECTION, observe.SPEC, scan, today(host))
            memory.save(state, remembered)
    except errors.StateError as error:
        # Whoever has the capabilities may watch; what the agent remembers is its own user's business.
        complaint = f"{error}; what was seen is not remembered"
    if complaint:
        cli.say(complaint)
