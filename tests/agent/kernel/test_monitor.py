# SPDX-License-Identifier: Apache-2.0
"""Does a window end when it should, lose nothing then, and refuse what means nothing? With unreal probes."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from agent import discover, errors
from agent.host import Host
from agent.kernel import loading, monitor, preflight
from agent.kernel.monitor import Window, open_window
from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import FileIdentity
from agent.kernel.source import Source


def opened(pid: int, count: int = 1) -> FileOpen:
    """An event that is told apart by its process number."""
    return FileOpen(
        timestamp="2026-11-01T00:00:00.000000Z", pid=pid, tid=pid, uid=0, gid=0, process="x",
        file="/x.pem", flags="O_RDONLY", result=3, count=count,
    )  # fmt: skip


class FakeSource:
    """Gives one batch at each look, and what is left once it is detached."""

    def __init__(
        self,
        batches: list[list[Event]],
        rest: list[Event],
        folds: list[Event] | None = None,
        times: dict[int, int] | None = None,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.batches = batches
        self.rest = rest
        self.folded = folds or []
        self.times = times or {}
        self.log: list[str] = []
        self.offsets: list[int] = []

    @property
    def is_empty(self) -> bool:
        return not (self.rest if "detach" in self.log else self.batches)

    def drain(self, wall_offset_ns: int) -> tuple[list[tuple[int, Event]], bool]:
        self.offsets.append(wall_offset_ns)
        self.log.append("drain")
        if "detach" in self.log:
            events, self.rest = self.rest, []
        else:
            events = self.batches.pop(0) if self.batches else []
        return [(self.times.get(event.pid, 0), event) for event in events], False

    def folds(self, wall_offset_ns: int) -> Iterator[Event]:
        self.log.append("folds")
        yield from self.folded

    def disregard(self, key: bytes) -> None:
        self.log.append(f"disregard {key.hex()}")

    def detach(self) -> None:
        self.log.append("detach")

    def close(self) -> None:
        self.log.append("close")


class FakeObject:
    """An object with a program for each probe, of which nothing is real."""

    programs = ()

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def window(source: FakeSource, duration_s: float | None = None, events_max: int | None = None) -> Window:
    """A window over one such source."""
    made = Window(Host(), [cast("Source", source)], {})
    made.limit(duration_s, events_max, interval_s=0.001)
    return made


def test_what_is_in_the_ring_when_time_is_up_is_still_delivered() -> None:
    """An open a moment before the end is inside the window."""
    # Given events at some looks, and some more when it is over
    source = FakeSource([[opened(1)], [], [opened(2)]], rest=[opened(3)], folds=[opened(4, count=9)])
    # When the window runs out
    with window(source, duration_s=0.05) as running:
        pids = [event.pid for event in running.events()]
    # Then all of them came, and the programs were detached before the last look
    assert pids == [1, 2, 3, 4]
    assert source.log[-4:] == ["detach", "drain", "folds", "close"]


def test_stop_ends_it_without_losing_anything() -> None:
    """Ctrl-C is an ordinary end."""
    # Given a window without an end
    source = FakeSource([[opened(1)], [opened(2)]], rest=[opened(3)])
    with window(source) as running:
        pids = []
        # When it is stopped while events are being read
        for event in running.events():
            pids.append(event.pid)
            if event.pid == 2:
                running.stop()
    # Then what was still in the ring came too
    assert pids == [1, 2, 3]


def test_it_ends_when_it_is_no_longer_wanted() -> None:
    """A service that is told to stop must not keep a host that shuts down waiting for its window."""
    # Given a window of an hour, and somebody who stops wanting it at the third look
    source = FakeSource([[opened(1)], [opened(2)]], rest=[opened(3)])
    answers = iter([False, False, True])
    with window(source, duration_s=3600) as running:
        running.stop_when(lambda: next(answers))
        # When it is read
        pids = [event.pid for event in running.events()]
    # Then it is over, and what was still in the ring came too
    assert pids == [1, 2, 3]
    assert next(answers, None) is None


def test_a_number_of_events_ends_it() -> None:
    """And the programs are detached at once, not when somebody gets round to it."""
    # Given more events than wanted
    source = FakeSource([[opened(1), opened(2), opened(3)]], rest=[opened(4)])
    # When the window is limited
    with window(source, events_max=2) as running:
        pids = [event.pid for event in running.events()]
        log = list(source.log)
    # Then there are no more
    assert pids == [1, 2]
    assert log[-1] == "detach"


def test_leaving_early_detaches_and_frees() -> None:
    """An exception in what reads the events must not leave programs in the kernel."""
    source = FakeSource([[opened(1)]], rest=[])
    with pytest.raises(ZeroDivisionError), window(source) as running:
        sum(event.pid / 0 for event in running.events())
    assert source.log[-1] == "close"


def test_the_wall_clock_is_asked_whenever_there_are_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is set, events that come later are told by the new one."""
    # Given a wall clock that is set forward by an hour between two looks
    host = Host()
    clock = iter(range(0, 10**9 * 3600 * 100, 10**9 * 3600))
    monkeypatch.setattr(host, "now_ns", lambda: next(clock))
    source = FakeSource([[opened(1)], [opened(2)]], rest=[])
    # When there are two looks
    made = Window(host, [cast("Source", source)], {})
    made.limit(None, 2, interval_s=0.001)
    with made as running:
        list(running.events())
    # Then each had its own offset
    assert len(set(source.offsets)) == 2


def both(
    one: FakeSource, other: FakeSource, duration_s: float | None = None, events_max: int | None = None
) -> Window:
    """A window over two such sources."""
    made = Window(Host(), [cast("Source", one), cast("Source", other)], {})
    made.limit(duration_s, events_max, interval_s=0.001)
    return made


def test_events_of_several_probes_come_in_the_order_of_time() -> None:
    """A process starts before it opens anything, whichever ring is read first."""
    # Given two probes whose events happened by turns
    times = {1: 10, 2: 20, 3: 30, 4: 40}
    one = FakeSource([[opened(2), opened(4)]], rest=[], times=times)
    other = FakeSource([[opened(1), opened(3)]], rest=[], times=times)
    # When one look finds them all
    with both(one, other, events_max=4) as running:
        pids = [event.pid for event in running.events()]
    # Then they come as they happened
    assert pids == [1, 2, 3, 4]


def test_what_happens_while_the_rings_are_read_waits_for_what_is_older() -> None:
    """The ring that was read first may hold something older than what is found in the second one."""
    # Given an event that happens after a look has begun, and an older one that only the next look finds
    later = time.monotonic_ns() + 50_000_000
    times = {1: later, 2: 20, 3: later - 1}
    one = FakeSource([[], [opened(3)]], rest=[], times=times)
    other = FakeSource([[opened(1), opened(2)]], rest=[], times=times)
    # When they are read
    with both(one, other, duration_s=0.1) as running:
        pids = [event.pid for event in running.events()]
    # Then the later one comes last, and none is left out
    assert pids == [2, 3, 1]


def test_what_still_waits_comes_at_the_end() -> None:
    """Nothing that was read from a ring is lost."""
    # Given an event whose time is not reached when the window is stopped
    one = FakeSource([[opened(1)]], rest=[], times={1: time.monotonic_ns() + 3600 * 10**9})
    other = FakeSource([], rest=[opened(2)])
    # When the window runs out
    with both(one, other, duration_s=0.02) as running:
        pids = [event.pid for event in running.events()]
    # Then it is there, after what was before it
    assert pids == [2, 1]


def test_only_loads_of_libraries_are_disregarded() -> None:
    """Other probes have nothing that could be told to leave a file out."""
    # Given a window with and one without the probe of loads
    loads, opens = FakeSource([], rest=[], name="lib_load"), FakeSource([], rest=[], name="file_open")
    with both(loads, opens) as running, window(FakeSource([], rest=[])) as without:
        # When a file is of no interest
        running.disregard(FileIdentity(inode=1, changed_ns=2, device=3, generation=4))
        without.disregard(FileIdentity(inode=1, changed_ns=2, device=3, generation=4))
    # Then the one probe is told, by the bytes that the kernel half knows it by
    assert loads.log[0] == "disregard " + struct.pack("=QQII", 1, 2, 3, 4).hex()
    assert opens.log == ["close"]


def test_an_unknown_probe_is_a_usage_error_that_names_the_known_ones() -> None:
    """Before anything is loaded."""
    with pytest.raises(errors.UsageError, match=r"no such probe: nonsense; there are .*file_open"):
        open_window(Host(), ["nonsense"])


def test_a_host_that_is_a_directory_cannot_be_monitored(tmp_path: Path) -> None:
    """Else the running kernel's events would be told as those of the directory."""
    with pytest.raises(errors.UsageError, match="only the running host"):
        open_window(Host(str(tmp_path)))


def test_a_probe_that_fails_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One probe's kernel feature may be missing where another's is there."""
    # Given two probes, one of which cannot be attached
    good = FakeSource([[opened(1)]], rest=[])

    def make(name: str, *_: object, **__: object) -> FakeSource:
        if name == "bad":
            raise errors.AttachError("bad could not be attached: reasons")
        return good

    monkeypatch.setattr(monitor, "Source", make)
    monkeypatch.setattr(loading, "load", lambda *_, **__: (FakeObject(), {}))
    monkeypatch.setattr(preflight, "require_privilege", lambda _: None)
    monkeypatch.setattr(preflight, "require_kernel", lambda _: None)
    monkeypatch.setattr(discover, "plugins", lambda _: dict.fromkeys(("bad", "good")))
    # When both are wanted
    with open_window(Host(), ["bad", "good"], events_max=1, interval_s=0.001) as running:
        # Then the one works and the other's reason is told
        assert [event.pid for event in running.events()] == [1]
        assert running.refused == {"bad": "bad could not be attached: reasons"}


@pytest.mark.parametrize(
    ("kinds", "raised"),
    [
        ([errors.AttachError], errors.AttachError),
        ([errors.KernelError], errors.KernelError),
        ([errors.KernelError, errors.AttachError], errors.AttachError),
    ],
)
def test_when_nothing_is_attached_every_reason_is_told(
    kinds: list[type[errors.AgentError]], raised: type[errors.AgentError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code tells a kernel that cannot from one that could."""
    # Given probes that all fail
    found = {f"probe{number}": kind for number, kind in enumerate(kinds)}

    loaded = FakeObject()

    def make(name: str, *_: object, **__: object) -> FakeSource:
        raise found[name](f"{name} failed")

    monkeypatch.setattr(monitor, "Source", make)
    monkeypatch.setattr(loading, "load", lambda *_, **__: (loaded, {}))
    monkeypatch.setattr(preflight, "require_privilege", lambda _: None)
    monkeypatch.setattr(preflight, "require_kernel", lambda _: None)
    monkeypatch.setattr(discover, "plugins", lambda _: dict.fromkeys(found))
    # When a window is asked for
    with pytest.raises(raised) as caught:
        open_window(Host())
    # Then the error is of the kind that fits, with all reasons
    assert type(caught.value) is raised
    assert all(f"{name} failed" in str(caught.value) for name in found)
    # And nothing stays in the kernel
    assert loaded.is_closed
