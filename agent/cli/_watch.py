# SPDX-License-Identifier: Apache-2.0
"""How does a command that watches run? Attach, show every event that was asked for, and account for the rest.

`monitor`, `files` and `libs` differ in the probes that they attach, and in nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from agent import cli, errors, events, formats, guest, memory, observe, sandbox
from agent.classify import FileTypes
from agent.collect import today
from agent.host import Host
from agent.kernel.probes import Event
from agent.kernel.source import ProbeStats
from agent.redact import People, Printed, Redaction, Truth
from agent.scanners import Scan
from agent.selection import Selection
from agent.state import StateDirectory
from agent.stream import Output

# Who presses Ctrl-C again after this time does not want to wait for a slow reader any longer.
_PATIENCE_S = 1.0


class Stop:
    """Whether somebody wants it to end: by Ctrl-C, SIGTERM, or because the terminal has gone."""

    def __init__(self) -> None:
        self.is_set = False
        self._since_s = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises KeyboardInterrupt for a second, impatient Ctrl-C."""
        now_s = time.monotonic()
        if self.is_set and number == signal.SIGINT and now_s - self._since_s > _PATIENCE_S:
            raise KeyboardInterrupt
        if not self.is_set:
            self.is_set, self._since_s = True, now_s


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
    # Only a look at the whole host tells what is in use on it.
    state_dir = (
        cli.load_config(args, {}).settings.state_dir if "file_open" in wanted and args.pid is None else None
    )
    output = Output(formats.stream(args.format), args.output, is_empty=args.overwrite)
    stop = Stop()
    with _signals(stop, output), sandbox.open_host() as host, guest.admit(exclusive=False):
        scan, stats, refused = _watch(args, host, selection, wanted, output, stop)
        if not args.quiet:
            cli.say(_account(stats))
        if state_dir is not None:
            _remember(state_dir, host, scan)
    is_partial = bool(refused) or any(one.unseen or one.refused for one in stats)
    return errors.EXIT_PARTIAL if args.strict and is_partial else errors.EXIT_COMPLETE


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


def _watch(
    args: argparse.Namespace,
    host: Host,
    selection: Selection,
    wanted: tuple[str, ...],
    output: Output,
    stop: Stop,
) -> tuple[Scan, tuple[ProbeStats, ...], dict[str, str]]:
    """The window: what file opens fold into, each probe's account, and the probes that were refused."""
    redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))

    def is_over() -> bool:
        complaint = output.reopen_if_asked()
        if complaint:
            cli.say(complaint)
        return stop.is_set or output.is_reader_gone()

    with observe.open_watch(
        host, args.duration or None, is_folding=False, probes=wanted, pid=args.pid,
        is_following=args.follow_children,
    ) as watch:  # fmt: skip
        watch.stop_when(is_over)
        printer = events.Printer(host, redaction, placement=watch.placement, file_kind=FileTypes(host).of)

        def show(event: Event) -> None:
            if selection.matches(
                pid=event.pid,
                process=event.process,
                library=getattr(event, "library", None),
                file=getattr(event, "file", None),
            ):
                output.show(printer.document(event))

        if not args.quiet:
            _announce(args, watch, wanted)
        output.begin()
        scan = watch.scan(show)
        output.end()
        return scan, watch.stats(), watch.refused


def _announce(args: argparse.Namespace, watch: observe.Watch, wanted: tuple[str, ...]) -> None:
    """What is watched from now on, and what is not though it was asked for."""
    at_work = [name for name in wanted if name not in watch.refused]
    until = f"for {args.duration} s" if args.duration else "until Ctrl-C"
    cli.say(f"watching {', '.join(at_work)} {until}")
    for name, reason in sorted(watch.refused.items()):
        cli.say(f"{name} is not watched: {reason}")
    if not args.verbose:
        return
    for stats in watch.stats():
        cli.say(f"{stats.probe}: by {stats.rung}: {', '.join(stats.attached)}")
        for program, reason in sorted(stats.refused.items()):
            cli.say(f"{stats.probe}: not {program}: {reason}")
    asked = {name: getattr(args, name, None) for name in ("pid", "name", "library", "file")}
    given = [f"--{name} {value}" for name, value in asked.items() if value is not None]
    cli.say(f"shown is what matches all of: {', '.join(given)}" if given else "everything is shown")


def _account(stats: Iterable[ProbeStats]) -> str:
    """One line: what was seen, what was lost, by which method."""
    told = [f"{one.probe}: {one.delivered} seen, {one.unseen} lost" for one in stats]
    methods = sorted({one.rung for one in stats})
    return "; ".join([*told, f"method: {', '.join(methods)}"])


def _remember(state_dir: str, host: Host, scan: Scan) -> None:
    """Only where this host is part of a fleet: a look by hand leaves nothing behind."""
    if not os.path.isdir(state_dir):
        return
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
