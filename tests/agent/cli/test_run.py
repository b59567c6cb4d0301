# SPDX-License-Identifier: Apache-2.0
"""One round of the agent as a service would run it, without a collector; with one it is tests/lab's."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

from agent import cli, collect, config, discover, errors, memory, observe
from agent.document import Draft
from agent.host import Host
from agent.model import schema
from agent.model.asset import FileUse
from agent.model.inventory import Entry, decode_part
from agent.model.location import Location
from agent.scanners import Scan, Spec
from agent.serving import rounds
from agent.settings import Collector
from agent.sinks import Context, Receipt
from agent.state import StateDirectory
from tests.agent.cli.commands import run, said
from tests.agent.given import draft

ONCE = ("run", "--once", "--scanner", "host")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the agent may keep what is its own."""
    return tmp_path / "state"


def test_without_enrolment_it_says_what_to_do(state: Path) -> None:
    """Exit code 1, once or as a service, and what was seen in use is remembered all the same."""
    for words in (ONCE, ("run", "--scanner", "host")):
        done = run(*words, "--state-dir", state)

        assert (done.returncode, done.stdout) == (errors.EXIT_FAILURE, b"")
        assert "fleet-agent enroll" in said(done)[-1]


def test_to_standard_output_goes_one_document_that_the_schema_takes(state: Path) -> None:
    """Without an enrolment: for a pipe, and for a run over SSH."""
    done = run("run", "--once", "--sink", "stdout", "--state-dir", state)

    assert done.returncode == 0
    # A section that is not whole here is named after it.
    assert said(done)[0] == "fleet-agent: written: standard output"
    document = json.loads(done.stdout)
    validator = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))
    assert list(validator.iter_errors(document)) == []
    assert document["manifest"]["sections"]["observed_files"]["status"] == "absent"


def test_to_a_file_goes_the_same(state: Path, tmp_path: Path) -> None:
    """For carrying by hand; its place comes from the configuration."""
    out, configured = tmp_path / "out.json", tmp_path / "agent.toml"
    configured.write_text(f'sinks = ["file"]\nlabels = {{role = "web"}}\n[sink.file]\npath = "{out}"\n')

    done = run(*ONCE, "--state-dir", state, "--config", configured)

    assert said(done) == [f"fleet-agent: written: {out}"]
    assert json.loads(out.read_text())["manifest"]["host"]["labels"] == {"role": "web"}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("--scanner", "certs"), errors.EXIT_USAGE, "there is no scanner 'certs'; there are: certificates"),
        (("--sink", "mail"), errors.EXIT_USAGE, "there is no sink 'mail'; there are: file, https, stdout"),
        (("--sink", "file"), errors.EXIT_FAILURE, "sink.file.path is not set"),
        (("--window", "0"), errors.EXIT_USAGE, "is not a whole number of seconds"),
        (("--config", "/nonexistent"), errors.EXIT_FAILURE, "there is no configuration file /nonexistent"),
    ],
)
def test_what_means_nothing_is_said_before_anything_is_looked_at(
    state: Path, words: tuple[str, ...], code: int, complaint: str
) -> None:
    """And no state directory is made for it."""
    done = run("run", "--once", *words, "--state-dir", state)

    assert (done.returncode, done.stdout) == (code, b"")
    assert complaint in said(done)[-1]
    assert not state.exists()


def test_a_state_directory_that_others_may_write_to_is_refused(state: Path) -> None:
    """Somebody could put a file of his own there."""
    state.mkdir()
    state.chmod(0o777)

    done = run(*ONCE, "--sink", "stdout", "--state-dir", state)

    assert (done.returncode, done.stdout) == (errors.EXIT_FAILURE, b"")
    assert str(state) in said(done)[-1]


def test_a_full_disk_behind_one_sink_does_not_keep_the_document_from_the_next(
    state: Path, tmp_path: Path
) -> None:
    """Each has its turn, and the failure is the command's."""
    out = tmp_path / "out.json"
    words = (*ONCE, "--sink", "stdout", "--sink", "file", "--state-dir", state)
    env = {"CRYPTOFLEET_AGENT_SINK_FILE_PATH": str(out)}

    with open("/dev/full", "wb") as full:
        done = run(*words, stdout=full, env=env)
    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == ["fleet-agent: cannot write to standard output: no space left on device"]
    assert json.loads(out.read_text())["manifest"]

    out.unlink()
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*words, stdout=writing, env=env)
    os.close(writing)
    assert (done.returncode, said(done)) == (errors.EXIT_FAILURE, [f"fleet-agent: written: {out}"])
    assert json.loads(out.read_text())["manifest"]


def test_ctrl_c_in_the_middle_leaves_the_state_as_it_was(state: Path) -> None:
    """The next run begins as if this one had not been."""
    assert run(*ONCE, "--sink", "stdout", "--state-dir", state).returncode == 0
    before = {name: (state / name).read_bytes() for name in os.listdir(state)}
    code = (
        "import os, signal, sys\nfrom agent import cli, collect\n"
        "def stopped(*args): os.kill(os.getpid(), signal.SIGINT)\n"
        "collect.remember = stopped\nsys.exit(cli.main(sys.argv[1:]))"
    )

    done = run(*ONCE, "--sink", "stdout", "--state-dir", state, agent=(sys.executable, "-c", code))

    assert (done.returncode, done.stdout, said(done)) == (cli.EXIT_STOPPED, b"", ["fleet-agent: stopped"])
    assert {name: (state / name).read_bytes() for name in os.listdir(state)} == before


# -- in this process -----------------------------------------------------------------------------------------


def use(path: str) -> Entry:
    """A file that was seen in use."""
    return Entry(key=path, asset=FileUse(access=("read",)), where=Location(path=path))


def configured(**sinks: object) -> config.Config:
    """Settings with these sinks."""
    loaded = config.load({"sinks": ("stdout",)}, {}, os.devnull)
    return config.Config(settings=loaded.settings, sinks=sinks)  # type: ignore[arg-type]


def test_what_a_monitor_remembers_meanwhile_is_not_forgotten(state: Path) -> None:
    """A window may last for hours, and somebody may look by hand in it."""
    with StateDirectory(str(state)) as directory:
        # Given a scanner during which another process remembers something
        module = ModuleType("slow")

        def scan(_host: Host) -> Scan:
            with directory.locked():
                remembered, _ = memory.load(directory)
                remembered.see(observe.SECTION, observe.SPEC, Scan(entries=[use("/a.pem")]), today)
                memory.save(directory, remembered)
            return Scan(entries=[use("/b.pem")])

        today = collect.today(Host())
        module.SPEC = Spec(detector=1, reads=(), sampled=True)  # type: ignore[attr-defined]
        module.scan = scan  # type: ignore[attr-defined]

        # When it runs
        made = rounds.look(
            rounds.Plan(configured=configured(), chosen={"slow": module}), Host(), directory, print
        )

        # Then both are in the document, and both are kept
        parts = [decode_part(made.parts[state.parts.local or ""]) for state in made.sections.values()]
        assert {entry.key for part in parts for entry in part} == {"/a.pem", "/b.pem"}
        assert set(memory.load(directory)[0].sections) == {"slow", observe.SECTION}


def test_every_sink_has_its_turn_and_what_can_be_tried_again_decides(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first failure is the command's, the others are told."""
    failures: Mapping[str, Exception | None] = {
        "https": errors.UnreachableError("cannot reach it"),
        "file": errors.ConfigError("cannot write it"),
        "stdout": None,
    }
    served: list[str] = []

    def plugin(_folder: ModuleType, name: str) -> ModuleType:
        module = ModuleType(name)

        def send(_draft: Draft, _own: object, _context: Context) -> Receipt:
            served.append(name)
            failure = failures[name]
            if failure is not None:
                raise failure
            return Receipt(where=name, outcome="written")

        module.send = send  # type: ignore[attr-defined]
        return module

    orders = (["https", "file", "stdout"], ["file", "stdout", "https"])
    asked = [configured(**dict.fromkeys(order)) for order in orders]
    monkeypatch.setattr(discover, "plugin", plugin)
    context = Context(host=Host(), collector=Collector())
    for order, chosen in zip(orders, asked, strict=True):
        served.clear()
        with pytest.raises(errors.UnreachableError):
            rounds.send(draft("libssl"), chosen, context, cli.say)
        assert served == order
        assert capsys.readouterr().err == "fleet-agent: cannot write it\n"
