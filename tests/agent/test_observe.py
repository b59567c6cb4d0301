# SPDX-License-Identifier: Apache-2.0
"""A window as a section: what was opened by which program of which unit, and what was not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, cast

import pytest

from agent import errors, observe
from agent.host import Host
from agent.kernel import fold
from agent.kernel.monitor import Window
from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.source import ProbeStats
from agent.model.asset import FileUse
from agent.model.inventory import Entry, encode_part
from agent.model.location import Location
from agent.observe import Watch
from agent.scanners import Scan


def opened(file: str, exe: str | None = "/usr/sbin/nginx", cgroup_id: int = 0, **more: object) -> FileOpen:
    """One event."""
    fields = {"flags": "O_RDONLY|O_CLOEXEC", "result": 3} | more
    return FileOpen(
        timestamp="2026-11-21T00:00:00.000000Z", pid=7, tid=7, uid=0, gid=0, process="nginx",
        file=file, exe=exe, cgroup_id=cgroup_id, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def account(**numbers: object) -> ProbeStats:
    """A probe's, with these numbers; the others are 0."""
    nothing = dict.fromkeys(
        ("submitted", "lost", "missed", "faulted", "malformed", "uncounted", "folded", "filtered", "own",
         "foreign", "delivered"), 0,
    )  # fmt: skip
    words: dict[str, object] = {
        "probe": "file_open", "rung": "libbpf CO-RE", "attached": (), "refused": {}, "lost_by_cpu": (),
    }  # fmt: skip
    return ProbeStats(**(words | nothing | numbers))  # type: ignore[arg-type]


class FakeWindow:
    """Gives its events, and its account."""

    def __init__(
        self, *events: Event, stats: ProbeStats | None = None, refused: dict[str, str] | None = None
    ) -> None:
        self._events = events
        self._stats = stats or account()
        self.refused = refused or {}
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self.log.append("enter")
        return self

    def events(self) -> Iterator[Event]:
        yield from self._events

    def stats(self) -> tuple[ProbeStats, ...]:
        return (self._stats,)

    def stop(self) -> None:
        self.log.append("stop")

    def stop_when(self, is_unwanted: Callable[[], bool]) -> None:
        self.log.append(f"stop when {is_unwanted()}")

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One with two services in its hierarchy of cgroups."""
    for unit in ("nginx.service", f"docker-{'0' * 64}.scope"):
        (tmp_path / "sys/fs/cgroup" / unit).mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 22 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n")
    return Host(str(tmp_path))


def scan(host: Host, window: FakeWindow, see: Callable[[Event], None] = lambda _: None) -> Scan:
    """What the window makes."""
    found = Watch(host, cast("Window", window)).scan(see)
    assert encode_part(found.entries)
    return found


def cgroup_id(host: Host, unit: str) -> int:
    """The id of one of its services."""
    return host.stat(f"/sys/fs/cgroup/{unit}").st_ino


def test_opens_are_told_by_program_unit_and_file(host: Host) -> None:
    """However many there were, and however they ended; no process, no moment."""
    nginx, docker = cgroup_id(host, "nginx.service"), cgroup_id(host, f"docker-{'0' * 64}.scope")
    window = FakeWindow(
        opened("/etc/ssl/a.key", cgroup_id=nginx),
        opened("/etc/ssl/a.key", cgroup_id=nginx, result=-13, count=9),
        opened("/etc/ssl/a.key", cgroup_id=nginx, flags="O_WRONLY|O_CREAT"),
        opened("/etc/ssl/a.key", cgroup_id=docker),
        opened("/etc/ssl/b.pem", exe=None, result=-2, flags=""),
        stats=account(delivered=5, folded=8),
    )

    found = scan(host, window)

    assert found.entries == [
        Entry(
            key="/usr/sbin/nginx docker /etc/ssl/a.key",
            asset=FileUse(access=("read",), results=("opened",)),
            where=Location(path="/etc/ssl/a.key", exe="/usr/sbin/nginx", container="docker"),
        ),
        Entry(
            key="/usr/sbin/nginx nginx.service /etc/ssl/a.key",
            asset=FileUse(access=("read", "write"), results=("denied", "opened")),
            where=Location(path="/etc/ssl/a.key", exe="/usr/sbin/nginx", unit="nginx.service"),
        ),
        Entry(
            key="[nginx] - /etc/ssl/b.pem",
            asset=FileUse(results=("missing",)),
            where=Location(path="/etc/ssl/b.pem", exe="[nginx]"),
        ),
    ]
    assert (found.status, found.rung, found.rung_reason) == ("complete", "libbpf CO-RE", None)
    assert found.live == {"file_open_events": 13, "file_open_lost": 0}


def test_the_order_of_events_makes_no_difference(host: Host) -> None:
    """Two CPUs' rings come in any order."""
    events = [opened(f"/{number % 3}.pem", result=number % 2 - 1) for number in range(6)]

    assert scan(host, FakeWindow(*events)).entries == scan(host, FakeWindow(*reversed(events))).entries


def test_a_program_that_was_upgraded_keeps_its_key_and_is_shown_as_it_is(host: Host) -> None:
    """The stream tells that its file has gone; what is kept must not change with that."""
    shown: list[str | None] = []

    found = scan(
        host, FakeWindow(opened("/a.pem", exe="/usr/bin/x (deleted)")), lambda event: shown.append(event.exe)
    )

    assert [entry.key for entry in found.entries] == ["/usr/bin/x - /a.pem"]
    assert shown == ["/usr/bin/x (deleted)"]


def test_names_chosen_to_look_alike_end_nothing(host: Host) -> None:
    """A key is a text with spaces between its parts, and a path may hold spaces."""
    found = Watch(
        host, cast("Window", FakeWindow(opened("/b - /c", exe="/a"), opened("/c", exe="/a - /b")))
    ).scan()

    assert len(found.entries) == 2


@pytest.mark.parametrize("loss", ["lost", "missed", "faulted", "malformed", "uncounted"])
def test_what_was_lost_makes_it_partial(host: Host, loss: str) -> None:
    """By whatever way: ring, recursion, memory, version, counting."""
    found = scan(host, FakeWindow(stats=account(**{loss: 3})))

    assert (found.status, found.skipped) == ("partial", {"lost": 3})
    assert found.reason == "3 lost between the kernel and us"
    assert found.live["file_open_lost"] == 3


def test_more_uses_than_are_kept_are_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded, and said."""
    defaults = fold.fold.__defaults__
    monkeypatch.setattr(fold.fold, "__defaults__", (2,))
    assert defaults == (fold.OBSERVATIONS_MAX,)

    found = scan(host, FakeWindow(*(opened(f"/{number}.pem", count=2) for number in range(5))))

    assert (len(found.entries), found.skipped, found.status) == (2, {"budget": 6}, "partial")


def test_programs_that_the_kernel_refused_are_named(host: Host) -> None:
    """A window with one probe less is not the whole window."""
    window = FakeWindow(stats=account(refused={"openat2": "EINVAL"}), refused={"file_open": "no BTF"})

    assert scan(host, window).rung_reason == "file_open: no BTF; openat2: EINVAL"


def test_a_window_is_closed_whatever_happens(host: Host) -> None:
    """Programs must not stay in the kernel."""
    window = FakeWindow(opened("/a.pem"))

    def fail(_event: Event) -> None:
        raise BrokenPipeError

    with Watch(host, cast("Window", window)) as watch:
        watch.stop()
        with pytest.raises(BrokenPipeError):
            watch.scan(fail)

    assert window.log == ["enter", "stop", "close"]


def test_a_window_of_a_run_ends_when_it_is_unwanted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is told to stop."""
    window = FakeWindow(opened("/a.pem"))
    monkeypatch.setattr(observe, "open_window", lambda *_args, **_more: window)

    outcome = observe.observe(host, 60, lambda: True)

    assert outcome.scan is not None
    assert window.log == ["enter", "stop when True", "close"]


@pytest.mark.parametrize(
    "kind", [errors.PrivilegeError, errors.KernelError, errors.AttachError, errors.UsageError]
)
def test_a_kernel_that_refuses_is_a_failed_section_with_its_reason(
    host: Host, kind: type[errors.AgentError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the run goes on."""

    def refuse(*_args: object, **_more: object) -> Window:
        raise kind("the kernel's own reason")

    monkeypatch.setattr(observe, "open_window", refuse)

    assert observe.observe(host, 1).failure == "the kernel's own reason"
    with pytest.raises(kind):
        observe.open_watch(host, 1, is_folding=False)


def test_only_the_running_host_can_be_watched(host: Host) -> None:
    """A directory has no kernel; that is said before anything is tried."""
    outcome = observe.observe(host, 1)

    assert outcome.failure is not None
    assert "only the running host can be monitored" in outcome.failure
