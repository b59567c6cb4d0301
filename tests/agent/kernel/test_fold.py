# SPDX-License-Identifier: Apache-2.0
"""Do opens fold into observations that say who used what, whatever the order and however often?"""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel.fold import Observation, fold, outcome
from agent.kernel.probes.file_open import FileOpen


def opened(
    file: str = "/etc/ssl/a.pem",
    day: int = 1,
    *,
    exe: str | None = "/usr/bin/cat",
    flags: str = "O_RDONLY|O_CLOEXEC",
    result: int = 3,
    count: int = 1,
    pid: int = 1,
) -> FileOpen:
    """An event of which only what matters here has to be said."""
    return FileOpen(
        timestamp=f"2026-11-{day:02}T10:00:00.000000Z", pid=pid, tid=pid, uid=0, gid=0, process="cat",
        exe=exe, file=file, flags=flags, result=result, count=count,
    )  # fmt: skip


def nginx(event: FileOpen) -> str:
    """A unit for all."""
    return "nginx.service"


def test_opens_of_one_file_by_one_executable_are_one_observation() -> None:
    """Processes come and go; what uses the key stays."""
    # Given opens of several processes on several days, one of them standing for many
    events = [
        opened(day=3, pid=1),
        opened(day=1, pid=2, result=-errno.EACCES),
        opened(day=9, pid=3, flags="O_RDWR", count=40),
        opened(day=2, pid=3, result=-errno.ENOENT),
    ]
    # When they are folded
    # Then there is one observation, with the first and the last day and every outcome
    assert fold(events, nginx).observations == (
        Observation(
            exe="/usr/bin/cat",
            unit="nginx.service",
            file="/etc/ssl/a.pem",
            first_day="2026-11-01",
            last_day="2026-11-09",
            count=43,
            is_read=True,
            is_written=True,
            outcomes={"denied": 1, "missing": 1, "opened": 41},
        ),
    )


@pytest.mark.parametrize(
    ("flags", "is_read", "is_written"),
    [
        ("O_RDONLY", True, False),
        ("O_WRONLY|O_CREAT", False, True),
        ("O_RDWR", True, True),
        ("O_WRONLY|O_RDWR", True, True),
        ("", False, False),
    ],
)
def test_the_access_mode_tells_reading_from_writing(flags: str, is_read: bool, is_written: bool) -> None:
    """Who can change a key is another question than who uses it."""
    (seen,) = fold([opened(flags=flags)], nginx).observations
    assert (seen.is_read, seen.is_written) == (is_read, is_written)


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (0, "opened"),
        (7, "opened"),
        (-errno.EACCES, "denied"),
        (-errno.EPERM, "denied"),
        (-errno.EROFS, "denied"),
        (-errno.ENOENT, "missing"),
        (-errno.ENOTDIR, "missing"),
        (-errno.EMFILE, "failed"),
    ],
)
def test_results_have_four_outcomes(result: int, word: str) -> None:
    """Denied, missing and failed are different facts."""
    assert outcome(result) == word


def test_different_executables_units_and_files_stay_apart() -> None:
    """These three are the key."""
    # Given opens that differ in one of them each
    events = [opened(), opened(exe="/usr/bin/dog"), opened("/etc/ssl/b.pem"), opened(pid=5)]
    # When they are folded, one process being of another unit
    seen = fold(events, lambda event: "b.service" if event.pid == 5 else "a.service").observations
    # Then there are four, sorted
    keys = [(one.exe, one.unit, one.file) for one in seen]
    assert len(keys) == 4
    assert keys == sorted(keys)


def test_a_process_without_an_executable_is_known_by_its_name() -> None:
    """In brackets, as ps writes what has no path."""
    (seen,) = fold([opened(exe=None)], nginx).observations
    assert seen.exe == "[cat]"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 28), st.sampled_from([3, -1, -2, -24]), st.integers(1, 9)
        )
    ),
    st.randoms(),
)
def test_the_order_does_not_matter(drawn: list[tuple[str, int, int, int]], chance: random.Random) -> None:
    """Same input, same bytes out: events of two CPUs have no order of their own."""
    # Given events, and the same ones shuffled
    events = [opened(f"/{name}.pem", day, result=result, count=count) for name, day, result, count in drawn]
    shuffled = list(events)
    chance.shuffle(shuffled)
    # When both are folded
    one, other = fold(events, nginx), fold(shuffled, nginx)
    # Then the observations are equal and account for every open
    assert one == other
    assert sum(seen.count for seen in one.observations) == sum(count for _, _, _, count in drawn)


def test_what_finds_no_place_is_counted() -> None:
    """A limit on everything, and no silence about it."""
    # Given more different files than may be kept
    events = [opened(f"/{number}.pem", count=2) for number in range(5)] + [opened("/0.pem")]
    # When they are folded
    folded = fold(events, nginx, observations_max=3)
    # Then the first three are kept and still grow, and the rest is a number
    assert [one.file for one in folded.observations] == ["/0.pem", "/1.pem", "/2.pem"]
    assert folded.observations[0].count == 3
    assert folded.overflow == 4
