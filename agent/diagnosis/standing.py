# SPDX-License-Identifier: Apache-2.0
"""How does this agent stand? Enrolled where, what was posted, who else of it is at work, is it switched off.

Everything is looked at and nothing changed: no directory is made, no lock taken, nothing damaged set aside.
"""

from __future__ import annotations

import datetime as dt
import os
import stat

from agent import config, discover, errors, scanners
from agent.guard import guest, lock
from agent.host import Host
from agent.kernel.probes import DELETED
from agent.model import canonical
from agent.model.status import Configuration, Enrolment, Posts, Service, Switch
from agent.posting import enrolment, last_post, spool
from agent.procfs.status import CAPABILITIES, parse_privileges, parse_users
from agent.state import StateDirectory
from agent.words import why

_ARGUMENTS_BYTES_MAX = 64 * 1024
_PROGRAM = b"fleet-agent"
_MODULE = [b"-m", b"agent"]
# An interpreter's own options come first; more of them than this nobody gives.
_WORDS_BEFORE = 8


def configuration(path: str | None) -> tuple[config.Config | None, Configuration]:
    """The settings, or None where they cannot be had, and what there is to say of their file.

    Args:
        path: as the command line named it; see `config.load`.
    """
    place = path or os.environ.get(config.FILE_ENV) or config.FILE_DEFAULT
    is_there = os.path.lexists(place)
    try:
        return config.load(None, None, path), Configuration(path=place, is_there=is_there, problem=None)
    except (errors.ConfigError, errors.UsageError) as error:
        return None, Configuration(path=place, is_there=is_there, problem=str(error))


def enrolled(state_dir: str) -> tuple[Enrolment, Posts]:
    """What the state directory says."""
    try:
        os.lstat(state_dir)
    except FileNotFoundError:
        return Enrolment(state="not_enrolled", state_dir=state_dir), Posts()
    except OSError as error:
        words = f"cannot look at {state_dir}: {why(error)}; run as root"
        return Enrolment(state="unknown", state_dir=state_dir, problem=words), Posts()
    try:
        # It is there, so nothing is made by opening it.
        with StateDirectory(state_dir) as state:
            return _enrolment(state), _posts(state)
    except errors.StateError as error:
        return Enrolment(state="unknown", state_dir=state_dir, problem=str(error)), Posts()


def _enrolment(state: StateDirectory) -> Enrolment:
    found = enrolment.load(state)
    kept_ns = enrolment.kept_ns(state)
    if found is None or kept_ns is None:
        return Enrolment(state="not_enrolled", state_dir=state.path)
    return Enrolment(
        state="enrolled",
        host_id=found.host_id,
        url=found.url,
        since=canonical.timestamp(kept_ns),
        state_dir=state.path,
    )


def _posts(state: StateDirectory) -> Posts:
    held = spool.glimpse(state)
    last = last_post.load(state)
    return Posts(
        seq=held.counts.seq or None,
        delivered_at=last.delivered_at,
        outcome=last.outcome,
        next_post_s=last.next_post_s,
        failed_at=last.failed_at,
        failure=last.failure,
        is_waiting=held.is_waiting,
        losses=held.counts.losses(),
        damaged=held.damaged,
    )


def next_post_at(posts: Posts) -> str | None:
    """When the collector wanted the next post; None where nothing says so."""
    if posts.delivered_at is None or posts.next_post_s is None:
        return None
    at = dt.datetime.fromisoformat(posts.delivered_at) + dt.timedelta(seconds=posts.next_post_s)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def service(host: Host, state_dir: str) -> Service:
    """Who else of the agent is at work here.

    Args:
        state_dir: its owner is who runs the service, if root does not.
    """
    holder = lock.holder()
    own = host.own_pids
    run_pid = next((pid for pid in host.pids() if pid not in own and is_run(host, pid, state_dir)), None)
    return Service(run_pid=run_pid, scanning=None if holder is None else str(holder))


def is_run(host: Host, pid: int, state_dir: str) -> bool:
    """Whether a process is this host's service; not where that cannot be known.

    Anybody may give a process such arguments. So it must be root's or the owner's of the state directory,
    wholly, by a program that gives nobody another user's rights (sudo(8) is root's while it asks for a
    password), and in this place: a container's agent is that container's.
    """
    page = f"/proc/{pid}"
    try:
        words = host.read(f"{page}/cmdline", _ARGUMENTS_BYTES_MAX).split(b"\0")
        if not is_service(words):
            return False
        users = parse_users(host.read(f"{page}/status", _ARGUMENTS_BYTES_MAX))
        # One that was replaced since it was started has another name than it had.
        program = os.path.basename(host.read_link(f"{page}/exe").removesuffix(DELETED))
        is_frozen = os.fsencode(program) == _PROGRAM
        return (
            len(users) == 1
            and users <= _owners(state_dir)
            and (is_frozen or program.startswith("python"))
            and not host.stat(f"{page}/exe").st_mode & (stat.S_ISUID | stat.S_ISGID)
            # The service has a mount namespace of its own, in which the root is the host's all the same.
            and _is_same(host, f"{page}/root", "/proc/self/root")
            and _is_same(host, f"{page}/ns/pid", "/proc/self/ns/pid")
        )
    except errors.HostError:
        return False


def _owners(state_dir: str) -> set[int]:
    try:
        return {0, os.stat(state_dir).st_uid}
    except OSError:
        return {0}


def _is_same(host: Host, path: str, other: str) -> bool:
    return os.path.samestat(host.stat(path), host.stat(other))


def is_service(words: list[bytes]) -> bool:
    """Whether a process with these arguments is `fleet-agent run`, and not once: itself or under Python."""
    names = [word.rpartition(b"/")[2] for word in words[:_WORDS_BEFORE]]
    if names[:1] == [_PROGRAM]:
        at = 0
    elif names and names[0].startswith(b"python"):
        at = next(
            (at for at, name in enumerate(names) if name == _PROGRAM or words[at - 1 : at + 1] == _MODULE), -1
        )
    else:
        return False
    return at >= 0 and words[at + 1 : at + 2] == [b"run"] and b"--once" not in words


def switch() -> Switch:
    """The operator's kill switch."""
    return Switch(path=guest.KILL_SWITCH, reason=guest.switched_off())


def doubts(host: Host, found: Service) -> list[str]:
    """Whether the service, which is another process, may less than its scanners want."""
    if found.run_pid is None:
        return []
    try:
        held = parse_privileges(host.read(f"/proc/{found.run_pid}/status", _ARGUMENTS_BYTES_MAX))
    except errors.HostError:
        return []
    wanted = {need for module in discover.plugins(scanners).values() for need in module.SPEC.needs}
    lacking = sorted(
        need for need in wanted if held is not None and need in CAPABILITIES and not held.may(need)
    )
    if not lacking:
        return []
    return [f"all this is said of this process; the service (pid {found.run_pid}) lacks {', '.join(lacking)}"]
