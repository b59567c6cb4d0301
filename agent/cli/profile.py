# SPDX-License-Identifier: Apache-2.0
"""Watch one process for a while, and print one document of its libraries and its key and certificate files.

What the process had mapped and open before counts too, marked `before_window`. It ends early when the process
does; Ctrl-C ends it with what was seen so far. `--name` takes part of a process's name, with case; of several
processes it is the one with the lowest number, and how many more there are is said on stderr. With
--follow-children every descendant has a profile of its own below `children`. Needs root, or CAP_BPF and
CAP_PERFMON; with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE also what another user's process had before, and what
is in files that are closed to others. `api_calls` is always empty: calls of functions are not watched.

Examples:
    fleet-agent profile --pid 1234
    fleet-agent profile --name nginx --duration 60 --follow-children
    fleet-agent profile --pid 1234 --output profile.json
    fleet-agent profile --name sshd | jq '.files_accessed[] | select(.type == "private_key")'
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent import cli, errors, formats
from agent.cli import _options
from agent.cli._watch import Stop
from agent.guard import guest, sandbox
from agent.host import Host
from agent.kernel.monitor import Window, open_window
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.source import ProbeStats
from agent.model import canonical
from agent.printing import output
from agent.printing.classify import FileTypes
from agent.printing.loaded import Loaded
from agent.printing.profile import Coverage, Profile
from agent.readers.file_kind import FileKind, is_listed
from agent.redact import People, Printed, Redaction, Truth
from agent.survey import held
from agent.survey import subject as subjects
from agent.survey.subject import Subject

DURATION_S = 30
PROBES = ("file_open", "lib_load", "process_exec", "process_exit")
# The kernel tells when a process ends. Where it does not, or that was lost, /proc is asked this often.
_ALIVE_EVERY_S = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Which process, how long, where to, and how."""
    _options.add_filters(parser, "pid", "name", meaning="Which process; one of them is needed.")
    _options.add_duration(parser, DURATION_S)
    _options.add_follow_children(parser)
    _options.add_output(parser, "profile")
    _options.add_redaction(parser)
    _options.add_words(parser)
    _options.add_strict(parser, "any event was lost, could not be watched for, or is of a file not looked at")


def run(args: argparse.Namespace) -> int:
    """Watch, then print."""
    if args.pid is None and args.name is None:
        raise errors.UsageError("which process? Give --pid or --name")
    render = formats.document(args.format, "profile")
    stop = Stop()
    with sandbox.open_host() as host, guest.admit(exclusive=False):
        redaction: Redaction = Truth() if args.no_redact else Printed(People.of(host))
        subject = _chosen(host, args)
        document, coverage = _watch(args, host, subject, redaction, stop)
        output.deliver(render(document), args.output)
    if args.verbose:
        for name, method in coverage.methods.items():
            cli.say(f"{name}: by {method}")
    if not args.quiet:
        for reason in coverage.reasons:
            cli.say(reason)
        if coverage.lost_events:
            cli.say(f"{coverage.lost_events} events were lost")
    return errors.EXIT_PARTIAL if args.strict and not coverage.is_complete else errors.EXIT_COMPLETE


def _chosen(host: Host, args: argparse.Namespace) -> Subject:
    """The process that was asked for. Raises AgentError."""
    if args.pid is not None:
        subject = subjects.by_pid(host, args.pid)
        if args.name is not None and args.name not in subject.name:
            raise errors.AgentError(f"process {args.pid} is called {subject.name!r}, not like {args.name!r}")
        return subject
    subject, others = subjects.by_name(host, args.name)
    if others and not args.quiet:
        cli.say(f"{others} more processes are called like {args.name!r}; this is of {subject.pid}, the first")
    return subject


def _watch(
    args: argparse.Namespace, host: Host, subject: Subject, redaction: Redaction, stop: Stop
) -> tuple[dict[str, Any], Coverage]:
    with (
        open_window(
            host, PROBES, duration_s=args.duration or None, pid=subject.pid, is_following=args.follow_children
        ) as window,
        held.Looks(host) as looks,
        _signals(stop),
    ):
        begun_s = time.monotonic()
        if not subjects.is_alive(host, subject):
            raise errors.AgentError(f"process {subject.pid} ended before it could be watched")
        profile = Profile(
            subject,
            began=canonical.timestamp(host.now_ns()),
            moment=lambda ticks: canonical.timestamp(subjects.start_ns(host, ticks)),
            is_following=args.follow_children,
        )
        _begin(host, profile, subject, looks)
        if not args.quiet:
            _announce(args, subject)
        window.stop_when(_Over(host, profile, stop))
        libraries = Loaded(host, window.disregard)
        _fill(host, profile, window, libraries)
        _finish(host, profile, looks)
        coverage = _coverage(window, looks, libraries)
        document = profile.document(
            host,
            redaction,
            generated=canonical.timestamp(host.now_ns()),
            duration_s=time.monotonic() - begun_s,
            coverage=coverage,
        )
    return document, coverage


def _announce(args: argparse.Namespace, subject: Subject) -> None:
    until = f"for {args.duration} s" if args.duration else "until it ends, or Ctrl-C"
    cli.say(f"watching process {subject.pid}, {subject.name}, {until}")


def _begin(host: Host, profile: Profile, subject: Subject, looks: held.Looks) -> None:
    """What there was before. The window is open already, so that nothing falls between the two."""
    for child in subjects.descendants(host, subject):
        profile.add_child(child)
    for one in profile.subjects:
        found = looks.at(one.pid)
        profile.hold(one, found.libraries, found.files, canonical.timestamp(host.now_ns()))


class _Over:
    """Whether there is nothing more to wait for: asked fifty times a second."""

    def __init__(self, host: Host, profile: Profile, stop: Stop) -> None:
        self._host = host
        self._profile = profile
        self._stop = stop
        self._next_s = 0.0

    def __call__(self) -> bool:
        """See the class."""
        if self._stop.is_set or not self._profile.subjects:
            return True
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _ALIVE_EVERY_S
        return not any(subjects.is_alive(self._host, one) for one in self._profile.subjects)


def _fill(host: Host, profile: Profile, window: Window, libraries: Loaded) -> None:
    """All events of the window."""
    types = FileTypes(host)

    def file_kind(event: FileOpen) -> FileKind | None:
        kind = types.of(event)
        return kind if is_listed(event.file, kind) else None

    for event in window.events():
        profile.see(event, library=libraries.of, file_kind=file_kind)


def _finish(host: Host, profile: Profile, looks: held.Looks) -> None:
    """What was loaded and not told of, and what the processes are called now."""
    when = canonical.timestamp(host.now_ns())
    for one in profile.subjects:
        now = subjects.read(host, one.pid)
        if now is not None and now.start_ticks == one.start_ticks:
            profile.refresh(now)
            profile.find(now, looks.at(now.pid).libraries, when)


def _coverage(window: Window, looks: held.Looks, libraries: Loaded) -> Coverage:
    stats: tuple[ProbeStats, ...] = window.stats()
    refused = [f"{name} is not watched: {reason}" for name, reason in sorted(window.refused.items())]
    for one in stats:
        refused += [f"{one.probe}: not {name}: {reason}" for name, reason in sorted(one.refused.items())]
    hidden = [f"{count} {reason}" for reason, count in looks.hidden.items()]
    if hidden:
        refused.append(f"not all that was there before could be looked at: {', '.join(hidden)}")
    refused += libraries.unrecognised()
    return Coverage(
        reasons=tuple(refused),
        lost_events=sum(one.unseen for one in stats),
        methods={one.probe: one.rung for one in stats},
    )


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """While in it, Ctrl-C and SIGTERM end the watch, and what was seen is printed."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, stop.handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
