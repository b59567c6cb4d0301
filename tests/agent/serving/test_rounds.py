# SPDX-License-Identifier: Apache-2.0
"""One round: what it does in which order, and what the service is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from agent import config, errors, memory, observe
from agent.document import Outcome
from agent.guard import guest, lock
from agent.host import Host
from agent.model.asset import FileUse
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.posting import backoff
from agent.posting.spool import Spool
from agent.scanners import Scan, Spec
from agent.serving import rounds
from agent.serving.schedule import Report
from agent.state import StateDirectory
from tests.agent.given import draft, enrolled
from tests.agent.loopback import Authority, Reply, Request, Server, serving

# A round in a process of its own, as the service has it, with switch and lock of the test's. A fourth word is
# done to it first.
ROUND = """
import os, signal, sys
import msgspec
from agent import config, document, observe
from agent.guard import guest
from agent.serving import rounds
from agent.model import asset, inventory, location
from agent.scanners import Scan

state_dir, page, place, before = sys.argv[1:5]
guest.KILL_SWITCH = place + "/disabled"
rounds._LOCK_S = 0

def window(host, window_s, is_unwanted):
    if before == "told to end":
        os.kill(os.getpid(), signal.SIGTERM)
    assert is_unwanted() == (before == "told to end")
    seen = inventory.Entry(key="/seen", asset=asset.FileUse(), where=location.Location())
    return document.Outcome(spec=observe.SPEC, scan=Scan(entries=[seen]))

observe.observe = window
flags = {"state_dir": state_dir, "scanners": ("host",)}
tell = lambda words: print(words, file=sys.stderr)
report = rounds.attempt(flags, config.read(page), tell)
print(msgspec.json.encode(report).decode())
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Switch and lock of the test's own."""
    monkeypatch.setattr(guest, "KILL_SWITCH", str(tmp_path / "disabled"))
    monkeypatch.setenv(lock.DIRECTORY_ENV, str(tmp_path / "lock"))
    return tmp_path


class Answers:
    """What the collector says to everything."""

    reply = Reply(204, b"", {"Cryptofleet-Pace": "next_post_s=900, rescan=?1"})

    def __call__(self, _request: Request) -> Reply:
        return self.reply


@pytest.fixture
def answers() -> Answers:
    """A collector that has all of it already."""
    return Answers()


@pytest.fixture
def server(answers: Answers, places: Path) -> Iterator[Server]:
    """It, serving; this host is enrolled with it."""
    ca = Authority()
    with (
        serving(ca.issue(places / "server.pem"), answers) as found,
        StateDirectory(str(places / "state")) as state,
    ):
        enrolled(state, found.url, ca.pem)
        yield found


def attempt(places: Path, text: str = "", before: str = "nothing") -> Report:
    """What a round reports, configured so."""
    (places / "agent.toml").write_text(text)
    words = [sys.executable, "-c", ROUND, places / "state", places / "agent.toml", places, before]
    done = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=Report)


def test_a_round_that_arrived_reports_what_the_collector_wants_next(places: Path, server: Server) -> None:
    """And how it went, for people."""
    report = attempt(places)

    assert report == Report(
        kind="done", words=f"unchanged: {server.url}, post 1", interval_s=900, is_rescan=True
    )


def test_without_the_collector_it_is_to_be_tried_again(
    places: Path, server: Server, answers: Answers
) -> None:
    """Not before the collector said, and the state waits in the spool."""
    answers.reply = Reply(503, b"", {"Retry-After": "77"})

    report = attempt(places)

    assert (report.kind, report.retry_after_s) == ("unreachable", 77)
    assert server.url in report.words
    with StateDirectory(str(places / "state")) as state:
        assert state.read("spool", 1 << 20) is not None


def test_a_refusal_is_no_reason_to_hurry(places: Path, server: Server, answers: Answers) -> None:
    """It will be refused again."""
    answers.reply = Reply(422, b"")
    assert attempt(places).kind == "failed"


def test_what_is_wrong_here_is_reported(places: Path, server: Server) -> None:
    """A configuration that was good when it was checked, and names what is no more."""
    report = attempt(places, 'sinks = ["file"]\n[sink.file]\npath = "/nonexistent/x"\n')
    assert (report.kind, report.words) == (
        "failed",
        "sink.file.path: cannot write /nonexistent/x: no such file or directory",
    )


def test_switched_off_it_looks_at_nothing(places: Path, server: Server) -> None:
    """And the collector hears nothing."""
    (places / "disabled").touch()
    assert attempt(places).kind == "disabled"
    assert server.requests == []


def test_beside_another_run_it_looks_at_nothing(places: Path, server: Server) -> None:
    """It comes later."""
    with guest.admit(exclusive=True):
        report = attempt(places)
    assert report.kind == "busy"
    assert f"pid {os.getpid()}" in report.words
    assert server.requests == []


def test_a_round_that_is_told_to_end_keeps_what_it_has_seen_and_sends_nothing(
    places: Path, server: Server
) -> None:
    """A host that shuts down does not wait for its collector."""
    report = attempt(places, "window_s = 5\n", "told to end")

    assert report.kind == "stopped"
    assert server.requests == []
    with StateDirectory(str(places / "state")) as state:
        assert "/seen" in memory.load(state)[0].sections[observe.SECTION].seen
    # And one that is not, sends it
    assert attempt(places, "window_s = 5\n").kind == "done"


# -- before the first


def check(places: Path, text: str = "") -> Report:
    """What the check of a configuration reports."""
    page = config.Page("agent.toml", text.encode())
    return rounds.check({"state_dir": str(places / "state"), "scanners": ("host",)}, page)


def test_a_host_that_is_new_begins_at_once_and_one_that_is_known_in_its_place(
    places: Path, server: Server
) -> None:
    """A fleet that is restarted in one second keeps its spread."""
    new = check(places)
    assert (new.kind, new.interval_s, new.start_delay_s) == ("ready", 3600, 0)

    with StateDirectory(str(places / "state")) as state:
        key = enrolled(state, server.url, b"")[1]
        Spool(state, key).put(draft())
        assert check(places).start_delay_s == backoff.start_delay_s(key.host_id, 900)


def test_a_round_may_take_as_long_as_its_parts_together(places: Path, server: Server) -> None:
    """A window of a day is no round that hangs."""
    short, long = check(places).round_s_max, check(places, "window_s = 86400\n").round_s_max
    assert long == short + 86400
    assert check(places, "[budget]\ntime_s = 1000\n").round_s_max == short + 100


def test_without_an_enrolment_there_is_nothing_to_begin(places: Path) -> None:
    """And it is said what to do."""
    report = check(places)
    assert (report.kind, report.exit_code) == ("failed", errors.EXIT_FAILURE)
    assert "fleet-agent enroll" in report.words
    assert not (places / "state").exists()


def test_a_bad_configuration_is_reported_with_its_place(places: Path) -> None:
    """As every command would."""
    report = check(places, "windows_s = 5\n")
    assert report.kind == "failed"
    assert "agent.toml: windows_s: there is no such setting; did you mean window_s?" in report.words


# -- the look


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """Windows that were opened: how long, and whether another run could scan meanwhile."""
    opened: list[tuple[float, bool]] = []

    def watch(_host: Host, duration_s: float, _is_unwanted: Callable[[], bool]) -> Outcome:
        opened.append((duration_s, lock.holder() is None))
        return Outcome(spec=observe.SPEC, scan=Scan(entries=[use("/seen.pem")]))

    monkeypatch.setattr(observe, "observe", watch)
    return opened


def use(key: str) -> Entry:
    """A file that was seen in use."""
    return Entry(key=key, asset=FileUse(access=("read",)), where=Location(path=key))


def test_a_window_is_opened_only_when_asked_and_keeps_nobody_from_scanning(
    places: Path, windows: list[tuple[float, bool]]
) -> None:
    """It costs the host something for as long as it is open, and may last for hours."""
    module = ModuleType("files")
    module.SPEC = Spec(detector=1, reads=())  # type: ignore[attr-defined]
    module.scan = lambda _host: Scan(entries=[use("/a")])  # type: ignore[attr-defined]
    for window_s, states in ((0, "absent"), (30, "complete")):
        configured = config.load({"window_s": window_s}, {}, os.devnull)
        with StateDirectory(str(places / f"state{window_s}")) as state:
            todo = rounds.Plan(configured=configured, chosen={"files": module})
            made = rounds.look(todo, Host(), state, print)
        assert made.sections["files"].status == "complete"
        assert made.sections["observed_files"].status == states
    assert windows == [(30, True)]
