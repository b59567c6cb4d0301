# SPDX-License-Identifier: Apache-2.0
"""Tell what works here, what is missing and why, and what to grant.

Each answer was tried just now, as this user in this place: a capability that is there and refused all the
same is told as refused. Nothing is changed, sent or attached, and root is not needed. It also tells where
this host is enrolled, what was posted last, and whether the agent is switched off. No key or token is shown.

It ends with 0 also where something is missing, and with 6 if you give --strict.

Examples:
    fleet-agent status
    fleet-agent status --for snapshot --strict --quiet      exit code 6: it would not see everything
    fleet-agent status --format json | jq -r '.missing[] | .remedy[]'
    fleet-agent status --format json | jq -e '.commands.snapshot.works == "fully"'
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator

import msgspec

from agent import cli, errors
from agent.cli import _options
from agent.diagnosis import conditions, readiness, remedies, standing, surroundings, trials
from agent.diagnosis.trials import Attempt
from agent.host import Host, text
from agent.model import canonical
from agent.model.status import Capability, Status, Tried
from agent.printing import output
from agent.procfs.status import CAPABILITIES
from agent.state import PATH_DEFAULT
from agent.survey import rights
from agent.words import plain


def configure(parser: argparse.ArgumentParser) -> None:
    """How to print, and whose directory."""
    parser.add_argument(
        "-f", "--format", choices=("text", "json"), default="text", metavar="FORMAT",
        help="one of: %(choices)s (default: text)",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing; for --strict")
    parser.add_argument(
        "--for", action="append", dest="commands", choices=conditions.COMMANDS, metavar="COMMAND",
        help="only what this command needs: %(choices)s; repeatable",
    )  # fmt: skip
    _options.add_strict(parser, "anything is missing")
    cli.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Try, judge, print."""
    status = only(look(Host(), args.config, args.state_dir), args.commands)
    if not args.quiet:
        if args.format == "json":
            output.put(msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n")
        else:
            output.put("".join(f"{plain(line)}\n" for line in _lines(status)).encode())
    return errors.EXIT_PARTIAL if args.strict and status.missing else errors.EXIT_COMPLETE


def look(host: Host, config_path: str | None, state_dir: str | None) -> Status:
    """Everything, as it is now.

    Args:
        config_path: the file that the command line named.
        state_dir: the directory that the command line named.
    """
    settings, configuration = standing.configuration(config_path)
    chosen = state_dir or (PATH_DEFAULT if settings is None else settings.settings.state_dir)
    enrolled, posts = standing.enrolled(os.path.abspath(chosen))
    switch = standing.switch()
    service = standing.service(host, enrolled.state_dir)
    held = rights.privileges(host)
    own = surroundings.own(host, held)
    tried = {
        "switch": Attempt(f"find no {switch.path}", switch.reason),
        "configuration": Attempt(f"read {configuration.path}", configuration.problem),
        "state": Attempt(f"open {enrolled.state_dir}", enrolled.problem),
        "enrolment": Attempt(
            f"find the enrolment in {enrolled.state_dir}",
            "there is none" if enrolled.state == "not_enrolled" else None,
        ),
        **trials.attempts(host),
    }
    place = surroundings.place(own)
    commands, missing = readiness.judge(tried, held, place)
    capabilities = [one.name for one in missing if one.name in CAPABILITIES]
    return Status(
        generated_at=canonical.timestamp(host.now_ns()),
        hostname=host.hostname(),
        kernel=text(os.uname().release),
        agent=own,
        enrolment=enrolled,
        posts=posts,
        service=service,
        switch=switch,
        configuration=configuration,
        commands=commands,
        missing=missing,
        notes=(
            *remedies.all_at_once(capabilities, held, place),
            *readiness.notes(own, tried),
            *standing.doubts(host, service),
        ),
        capabilities={
            name: Capability(effective=held.may(name), bounding=held.could(name), ambient=held.keeps(name))
            for name in CAPABILITIES
        },
        settings=surroundings.settings(host),
        tried={name: Tried(what=one.what, failure=one.failure) for name, one in tried.items()},
    )


def only(status: Status, commands: Collection[str] | None) -> Status:
    """The same for some commands; None: for all."""
    if commands is None:
        return status
    missing = []
    for one in status.missing:
        hindered = {name: works for name, works in one.commands.items() if name in commands}
        if hindered:
            missing.append(msgspec.structs.replace(one, commands=hindered))
    chosen = {name: one for name, one in status.commands.items() if name in commands}
    return msgspec.structs.replace(status, commands=chosen, missing=tuple(missing))


# -- for people ----------------------------------------------------------------------------------------------


def _lines(status: Status) -> Iterator[str]:
    own = status.agent
    where = f"on {status.hostname}, Linux {status.kernel}"
    yield f"fleet-agent {own.version} {where}, as {own.user} (uid {own.uid})"
    yield ""
    for name, words in _facts(status):
        yield f"{name:<14} {words}"
    yield ""
    for name, command in status.commands.items():
        why = f": {', '.join(command.missing)}" if command.missing else ""
        code = f" (would exit {command.exit_code})" if command.exit_code else ""
        yield f"{name:<14} {command.works}{code}{why}"
    for one in status.missing:
        yield ""
        hindered = ", ".join(f"{name} {works}" for name, works in one.commands.items())
        yield f"missing: {one.name} ({hindered})"
        for title, sentences in (("tried", one.why), ("so", one.means), ("do", one.remedy)):
            for at, sentence in enumerate(sentences):
                yield f"  {'' if at else title:<6} {sentence}"
    if status.notes:
        yield ""
    for note in status.notes:
        yield f"note: {note}"


def _facts(status: Status) -> Iterator[tuple[str, str]]:
    """What to know before anything else, by name."""
    enrolment, posts, service = status.enrolment, status.posts, status.service
    if enrolment.state == "enrolled":
        yield "enrolled", f"as {enrolment.host_id} with {enrolment.url}, since {enrolment.since}"
    else:
        yield "enrolled", "no" if enrolment.state == "not_enrolled" else f"unknown: {enrolment.problem}"
    if posts.is_waiting is not None:
        yield "last post", _last_post(status)
        yield "spool", "a state waits to be posted" if posts.is_waiting else "nothing waits"
    if posts.losses or posts.damaged:
        told = [f"{count} {name}" for name, count in posts.losses.items()]
        yield "lost", ", ".join([*told, *(f"{name} is damaged" for name in posts.damaged)])
    yield "service", "not seen" if service.run_pid is None else f"running, pid {service.run_pid}"
    if service.scanning:
        yield "scanning now", service.scanning
    yield (
        "switched off",
        "no" if status.switch.reason is None else f"by {status.switch.path}: {status.switch.reason}",
    )
    found = status.configuration
    yield (
        "configuration",
        found.problem or (f"{found.path}, valid" if found.is_there else f"defaults (no {found.path})"),
    )


def _last_post(status: Status) -> str:
    posts = status.posts
    words = "none"
    if posts.delivered_at is not None:
        words = f"number {posts.seq}, {posts.outcome} at {posts.delivered_at}"
        following = standing.next_post_at(posts)
        if following is not None:
            words += f", the next is due at {following}"
    if posts.failure is not None:
        words += f"; failed at {posts.failed_at}: {posts.failure}"
    return words
