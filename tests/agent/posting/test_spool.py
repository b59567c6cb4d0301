# SPDX-License-Identifier: Apache-2.0
"""The spool: one whole state, and a number that is never used twice, through any crash."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from agent import errors
from agent.model import canonical, limits
from agent.model.inventory import decode_manifest
from agent.posting import signing
from agent.posting.identity import ensure_key
from agent.posting.spool import SEQ_MAX, Counts, Spool
from agent.state import StateDirectory
from tests.agent import spool_lives
from tests.agent.given import draft


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """An empty state directory."""
    with StateDirectory(str(tmp_path / "agent")) as found:
        yield found


@pytest.fixture
def spool(state: StateDirectory) -> Spool:
    """Its spool."""
    return Spool(state, ensure_key(state))


def test_a_state_is_numbered_signed_and_kept_to_the_byte(spool: Spool, state: StateDirectory) -> None:
    """What a later process posts is what this one would have posted."""
    given = draft("libssl", "libcrypto")

    put = spool.put(given)

    with StateDirectory(state.path) as later:
        assert Spool(later, ensure_key(later)).load() == put
    manifest = decode_manifest(put.manifest)
    assert (manifest.seq, put.seq) == (1, 1)
    assert manifest.host.host_id == ensure_key(state).host_id
    assert signing.is_signed(put.manifest, put.signature)
    assert put.parts == given.parts
    assert put.live == b'{"libraries":{"mapped":3}}'


def test_a_later_state_takes_the_place_of_one_that_waits_and_this_is_counted(spool: Spool) -> None:
    """An inventory is a state, not a log; but that one never arrived is not silently forgotten."""
    spool.put(draft("old"))
    latest = spool.put(draft("new"))

    assert spool.load() == latest
    assert latest.seq == 2
    assert spool.counts().losses() == {"replaced": 1}


def test_a_state_that_arrived_is_forgotten_with_the_losses_that_were_told(spool: Spool) -> None:
    """Losses that came after the telling stay."""
    spool.put(draft("lost"))
    sent = spool.put(draft("sent"))
    told = spool.counts()
    spool.put(draft("later"))

    spool.delivered(sent, told)

    waiting = spool.load()
    assert waiting is not None
    assert waiting.seq == 3
    assert spool.counts() == Counts(seq=3, replaced=1)
    spool.delivered(waiting, spool.counts())
    assert spool.load() is None
    assert spool.counts() == Counts(seq=3)
    assert spool.put(draft()).seq == 4


def test_a_state_that_is_numbered_anew_says_the_same(spool: Spool) -> None:
    """Only number and signature differ; the number is above all that was seen on either side."""
    spool.put(draft("a"))
    before = spool.put(draft("b"))

    after = spool.advance(40)

    assert after is not None
    assert after.seq == 41
    assert spool.load() == after
    assert (after.parts, after.live) == (before.parts, before.live)
    assert signing.is_signed(after.manifest, after.signature)
    renumbered = msgspec.structs.replace(decode_manifest(before.manifest), seq=41)
    assert decode_manifest(after.manifest) == renumbered
    assert spool.put(draft("c")).seq == 42


def test_nothing_waiting_cannot_be_numbered_anew(spool: Spool) -> None:
    """Another process may have delivered it meanwhile."""
    assert spool.advance(5) is None


def test_a_refused_state_is_set_aside_and_counted(spool: Spool, state: StateDirectory) -> None:
    """It would be refused each time, and people will want to see why."""
    spool.refused(spool.put(draft("refused")))

    assert spool.load() is None
    assert spool.counts().losses() == {"refused": 1}
    assert os.listdir(f"{state.path}/quarantine") == ["spool.0"]


def test_a_later_state_is_not_set_aside_for_an_earlier_one(spool: Spool) -> None:
    """Nor forgotten for it."""
    first = spool.put(draft("first"))
    second = spool.put(draft("second"))

    spool.refused(first)
    spool.delivered(first, Counts())

    assert spool.load() == second


def damaged_files(data: bytes) -> Iterator[bytes]:
    """The file cut short, and with one bit of each byte turned over."""
    yield from (data[:length] for length in range(0, len(data), 7))
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
    yield data + b"x"


def test_a_damaged_spool_is_set_aside_and_counted_and_the_next_post_goes_on(
    spool: Spool, state: StateDirectory
) -> None:
    """No damage is taken for a state, and none stops the agent for good."""
    spool.put(draft("libssl"))
    data = state.read("spool", 10**6)
    assert data is not None
    for count, damaged in enumerate(damaged_files(data), 1):
        state.write("spool", damaged)
        assert spool.load() is None, damaged
        assert spool.counts() == Counts(seq=1, damaged=count)
    assert len(os.listdir(f"{state.path}/quarantine")) == 4
    assert spool.put(draft("libssl")).seq == 2


def test_a_damaged_counter_starts_again_above_what_waits(spool: Spool, state: StateDirectory) -> None:
    """The waiting state's number was used already; the collector knows all earlier ones."""
    for name in "abc":
        spool.put(draft(name))
    data = state.read("counter", 4096)
    assert data is not None
    for damaged in damaged_files(data):
        state.write("counter", damaged)
        assert spool.counts() == Counts(damaged=1)
        assert spool.put(draft("d")).seq == 4
        # Back to three.
        state.write("counter", data)
        spool.put(draft("c"))
        waiting = spool.load()
        assert waiting is not None
        manifest = msgspec.structs.replace(decode_manifest(waiting.manifest), seq=3)
        spool._keep(spool._seal(manifest, waiting.parts, waiting.live))


def test_a_state_of_another_key_is_not_posted(spool: Spool, state: StateDirectory) -> None:
    """A directory that was copied or restored over another host's says what that host was."""
    spool.put(draft("theirs"))
    state.remove("host.key")

    assert Spool(state, ensure_key(state)).load() is None
    assert spool.counts().losses() == {"damaged": 1}


def test_what_is_true_only_now_never_costs_the_state(spool: Spool) -> None:
    """`live` has a limit of its own; beyond it, its size is told instead."""
    large = draft("libssl")
    large.live = {"libraries": "x" * limits.LIVE_BYTES_MAX}

    put = spool.put(large)

    assert len(put.live) < limits.LIVE_BYTES_MAX // 2
    assert json.loads(put.live)["omitted_bytes"] > limits.LIVE_BYTES_MAX


def test_a_manifest_larger_than_any_collector_takes_is_refused_here(spool: Spool) -> None:
    """And what waited still waits."""
    before = spool.put(draft("before"))
    large = draft("after")
    large.sections |= {
        f"section_{number}": msgspec.structs.replace(large.sections["libraries"], reason="x" * 60_000)
        for number in range(5)
    }

    with pytest.raises(errors.AgentError, match="fewer labels or scanners"):
        spool.put(large)
    assert spool.load() == before


def test_a_number_beyond_what_documents_carry_is_refused(spool: Spool) -> None:
    """Integers of documents end at 2**53."""
    spool.put(draft())

    with pytest.raises(errors.StateError, match="beyond"):
        spool.advance(SEQ_MAX)


EVENTS = ["put", "deliver", "advance", "refuse", "lose counter", "reopen"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@examples(st.lists(st.sampled_from(EVENTS)))
def test_no_order_of_events_uses_a_number_twice(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    """Of two manifests with one number, one would be lost: the collector answers it as it did the other."""
    seen: dict[int, bytes] = {}
    with StateDirectory(str(tmp_path_factory.mktemp("numbers") / "agent")) as state:
        spool = Spool(state, ensure_key(state))
        accepted = 0
        for count, event in enumerate(events):
            waiting = spool.load()
            if event == "put":
                waiting = spool.put(draft(str(count), at_us=count))
            elif event == "advance" and waiting is not None:
                waiting = spool.advance(max(accepted, waiting.seq))
            elif event == "deliver" and waiting is not None:
                accepted = max(accepted, waiting.seq)
                spool.delivered(waiting, spool.counts())
            elif event == "refuse" and waiting is not None:
                spool.refused(waiting)
            elif event == "lose counter" and waiting is not None:
                state.remove("counter")
            elif event == "reopen":
                spool = Spool(state, ensure_key(state))
            if waiting is not None:
                assert seen.setdefault(waiting.seq, waiting.manifest) == waiting.manifest


@pytest.mark.slow
def test_a_kill_between_any_two_system_calls_loses_nothing(tmp_path: Path) -> None:
    """Old or new and whole; no number for two manifests; nothing left over that adds up."""
    # Given an agent that dies before its first, second, ... change of anything, and another life after each
    # death
    done = subprocess.run(
        [sys.executable, spool_lives.__file__, tmp_path], check=True, capture_output=True, text=True
    )
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    # Then there were many deaths, and at last a life without one
    assert len(deaths) > 60
    assert [death["signal"] for death in deaths] == [9] * (len(deaths) - 1) + [0]
    states = [death["found"]["state"] for death in deaths]
    # Before a state arrives, a whole one is there: the one before or the one after. In order of dying, no
    # going back.
    assert [state for state, _ in itertools.groupby(states)] == ["first", "second", None, "third", None]
    for death in deaths:
        assert death["found"].get("whole", True), death
        assert death["found"]["damaged"] == 0, death
        assert death["again"] == 0, death
        assert death["left"] == ["counter", "host.key"], death
        manifests: dict[int, str] = {}
        for post in death["posts"]:
            assert manifests.setdefault(post["seq"], post["manifest"]) == post["manifest"], death


class Disk:
    """What a disk may hold after a power cut, by the letter of fsync(2): what was not synced may be gone.

    Every change the agent asks for is recorded; `after` builds the directory as it may be found when the
    power fails after the first N of them.
    """

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self.operations: list[tuple[str, ...]] = []
        self._bytes: dict[str, bytes] = {path.name: path.read_bytes() for path in directory.iterdir()}
        self._fds: dict[int, str] = {}
        self._contents: dict[int, bytes] = {}
        for name in ("open", "write", "fsync", "rename", "unlink"):
            patch.setattr(os, name, getattr(self, "_" + name)(getattr(os, name)))

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *args: Any, **more: Any) -> int:  # noqa: ANN401
            fd = real(path, flags, *args, **more)
            self._fds[fd] = str(path)
            if flags & os.O_CREAT:
                self.operations.append(("create", str(path)))
            return fd

        return call

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(fd: int, data: Any) -> int:  # noqa: ANN401
            self.operations.append(("write", self._fds[fd], bytes(data).hex()))
            return real(fd, data)

        return call

    def _fsync(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(fd: int) -> None:
            # A descriptor opened before we began to look is the directory's.
            self.operations.append(("sync", self._fds.get(fd, ".")))
            real(fd)

        return call

    def _rename(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(old: str, new: str, **more: Any) -> None:  # noqa: ANN401
            self.operations.append(("rename", old, new))
            real(old, new, **more)

        return call

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(name: str, **more: Any) -> None:  # noqa: ANN401
            real(name, **more)
            self.operations.append(("unlink", name))

        return call

    def after(self, count: int, *, names_kept: bool, bytes_kept: float) -> dict[str, bytes]:
        """Files after a cut.

        Args:
            count: operations before it.
            names_kept: whether changes of names that were not synced made it to the disk all the same.
            bytes_kept: which part of bytes that were not synced did.
        """
        files = {name: (data, data) for name, data in self._bytes.items()}  # as seen, as synced
        synced = dict(files)
        for operation, name, *more in self.operations[:count]:
            if operation == "create":
                files[name] = (b"", b"")
            elif operation == "write":
                files[name] = (files[name][0] + bytes.fromhex(more[0]), files[name][1])
            elif operation == "rename":
                files[more[0]] = files.pop(name)
            elif operation == "unlink":
                del files[name]
            elif name == ".":
                synced = dict(files)
            else:
                files[name] = (files[name][0], files[name][0])
        return {
            name: seen if seen == safe else seen[: len(safe) + int((len(seen) - len(safe)) * bytes_kept)]
            for name, (seen, safe) in (files if names_kept else synced).items()
        }


def test_a_power_cut_at_any_moment_loses_nothing_that_was_promised(
    spool: Spool, state: StateDirectory, tmp_path: Path
) -> None:
    """Whatever of the unsynced the disk kept: a whole state, and after `put` has returned, the new one."""
    # Given a put whose every change of the disk was recorded
    old = spool.put(draft("old"))
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, Path(state.path))
        new = spool.put(draft("new"))
    assert [operation[0] for operation in disk.operations] == [
        "create",
        "write",
        "sync",
        "rename",
        "sync",
    ] * 2
    # When the power fails after any of them
    ways = itertools.product(range(len(disk.operations) + 1), (False, True), (0.0, 0.5, 1.0))
    for number, (count, names_kept, bytes_kept) in enumerate(ways):
        directory = tmp_path / f"after-{number}"
        directory.mkdir(mode=0o700)
        for name, data in disk.after(count, names_kept=names_kept, bytes_kept=bytes_kept).items():
            (directory / name).write_bytes(data)
            (directory / name).chmod(0o600)
        with StateDirectory(str(directory)) as found:
            later = Spool(found, ensure_key(found))
            held = later.load()
            # Then one of the two is there, whole; the new one for sure when the last sync was done
            assert held in ((old, new) if count < len(disk.operations) else (new,)), (count, names_kept)
            assert later.counts().damaged == 0
            # And the next number is above both that can have been posted
            assert later.put(draft("next")).seq > (new.seq if held == new else old.seq)


@pytest.mark.root
def test_a_full_disk_keeps_the_state_before_and_uses_up_its_number(tmp_path: Path) -> None:
    """The state before can still be posted; the number of the one that was lost is not given to another."""
    place = tmp_path / "disk"
    place.mkdir()
    command = f"mount -t tmpfs -o size=128k,mode=0700 tmpfs {place}"
    done = subprocess.run(command.split(), check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.decode().strip()}")
    try:
        with StateDirectory(str(place / "agent")) as state:
            spool = Spool(state, ensure_key(state))
            before = spool.put(draft("before"))
            with pytest.raises(errors.StateError, match="no space left on device"):
                spool.put(draft(*map(str, range(30)), padding="x" * 8000))
            assert spool.load() == before
            assert spool.put(draft("after")).seq == 3
    finally:
        subprocess.run(["umount", place], check=True)


def test_the_spooled_document_is_one_that_a_reader_of_documents_reads(
    spool: Spool, state: StateDirectory
) -> None:
    """Below its first line: for people with jq, and for carrying by hand."""
    from agent.model.inventory import decode_sealed

    put = spool.put(draft("libssl"))

    data = state.read("spool", 10**6)
    assert data is not None
    document = decode_sealed(data.partition(b"\n")[2])
    assert bytes(document.manifest) == put.manifest
    assert document.signature == put.signature
    assert {digest: canonical.digest(bytes(part)) for digest, part in document.parts.items()} == {
        digest: digest for digest in put.parts
    }
