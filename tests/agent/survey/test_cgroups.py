# SPDX-License-Identifier: Apache-2.0
"""Which unit is a cgroup id? Learnt as ids turn up, without looking all the time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.host import Host
from agent.procfs.cgroup import Placement
from agent.survey import cgroups
from agent.survey.cgroups import CgroupPlacements

MOUNT = "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
UNKNOWN = 2**63


class Clock:
    """Time that passes when the test says so, and each time that it is asked for: so long takes a look."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.look_s = 0.001

    def monotonic(self) -> float:
        """As time.monotonic."""
        self.now_s += self.look_s
        return self.now_s


class Hierarchy:
    """A host with a unified hierarchy."""

    def __init__(self, root: Path, table: str = MOUNT) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(table)
        self.make("/")
        self.looks = 0
        self.host = Host(str(root))
        list_directories = self.host.list_directories

        def counted(path: str) -> list[str]:
            self.looks += path == "/sys/fs/cgroup"
            return list_directories(path)

        self.host.list_directories = counted  # type: ignore[method-assign]

    def make(self, path: str) -> int:
        """A cgroup; returns its id."""
        place = self.root / "sys/fs/cgroup" / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        return place.stat().st_ino


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the room."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def test_an_id_is_the_unit_of_its_directory(tmp_path: Path, clock: Clock) -> None:
    """By its path in the hierarchy, as in /proc/PID/cgroup; one look is enough for all."""
    there = Hierarchy(tmp_path)
    ids = {
        there.make("/system.slice/nginx.service"): "nginx.service",
        there.make("/system.slice/a.service/nested"): "a.service",
        there.make(f"/system.slice/docker-{'0' * 64}.scope"): "docker",
        there.make("/init.scope"): "init.scope",
        there.make("/"): "-",
    }
    placements = CgroupPlacements(there.host)

    assert {number: placements.of(number).label for number in ids} == ids
    assert there.looks == 1


def test_a_unit_that_begins_while_we_watch_is_found(tmp_path: Path, clock: Clock) -> None:
    """Also right after another look: its programs' keys must not depend on that."""
    there = Hierarchy(tmp_path)
    placements = CgroupPlacements(there.host)
    assert placements.of(there.make("/one.service")).unit == "one.service"

    clock.now_s += 0.02  # one drain of the ring later
    assert placements.of(there.make("/two.service")).unit == "two.service"


def test_an_id_that_has_gone_is_not_looked_for_twice(tmp_path: Path, clock: Clock) -> None:
    """No other cgroup gets it."""
    there = Hierarchy(tmp_path)
    placements = CgroupPlacements(there.host)

    for _ in range(100):
        clock.now_s += 10
        assert placements.of(UNKNOWN) == Placement()

    assert there.looks == 1


def test_looking_takes_a_tenth_of_the_time_at_most(tmp_path: Path, clock: Clock) -> None:
    """However fast cgroups come and go; those not looked for have another chance."""
    there = Hierarchy(tmp_path)
    placements = CgroupPlacements(there.host)
    clock.look_s = 1.0
    began_s = clock.now_s
    for number in range(100):
        placements.of(UNKNOWN + number)
    cost_s = there.looks * clock.look_s
    assert clock.look_s < cost_s <= (clock.now_s - began_s) / 10 + clock.look_s

    late = there.make("/late.service")
    clock.now_s += 100
    assert placements.of(late).unit == "late.service"


@pytest.mark.parametrize("table", ["", "garbage\n", "30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"])
def test_without_the_hierarchy_there_are_no_units(tmp_path: Path, clock: Clock, table: str) -> None:
    """A host of version 1 only; nothing is looked at, and nothing fails."""
    there = Hierarchy(tmp_path, table)
    placements = CgroupPlacements(there.host)

    assert placements.of(there.make("/one.service")) == Placement()
    assert there.looks == 0
    (tmp_path / "proc/self/mountinfo").unlink()
    assert CgroupPlacements(there.host).of(1) == Placement()


def test_a_cgroup_that_goes_while_we_look_hinders_no_other(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services end at every moment."""
    there = Hierarchy(tmp_path)
    stays, goes = there.make("/stays.service"), there.make("/goes.service")
    stat = there.host.stat

    def gone(path: str, *, follow: bool = True) -> os.stat_result:
        if path.endswith("/goes.service"):
            (tmp_path / "sys/fs/cgroup/goes.service").rmdir()
        return stat(path, follow=follow)

    monkeypatch.setattr(there.host, "stat", gone)
    placements = CgroupPlacements(there.host)

    assert placements.of(stays).unit == "stays.service"
    assert placements.of(goes) == Placement()


def test_a_hierarchy_of_any_size_is_looked_at_so_far(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends; what is beyond is unknown."""
    monkeypatch.setattr(cgroups, "_DIRECTORIES_MAX", 5)
    there = Hierarchy(tmp_path)
    ids = [there.make(f"/{number}.service") for number in range(10)]
    placements = CgroupPlacements(there.host)

    assert sum(placements.of(number) != Placement() for number in ids) == 4
