# SPDX-License-Identifier: Apache-2.0
"""Does `status` tell the truth? What it says is compared with what commands then do in the same place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent import cli, discover, errors, scanners
from agent.diagnosis import conditions
from agent.guard import lock
from agent.kernel import probes
from agent.model import status as model
from agent.posting import last_post, spool
from agent.posting.identity import ensure_key
from agent.procfs.status import CAPABILITIES
from agent.state import StateDirectory
from tests.agent.cli.commands import ALONE, AS_NOBODY, Done, jq, may_be_nobody, run, said
from tests.agent.given import draft, enrolled

# A process of root's beside the one that is run, with cryptography in it: something that may be refused.
# Its input is opened anew: what was opened outside lies on mounts that are in no table in there.
_PROCESS = f"{sys.executable} -c 'import ssl, time; time.sleep(600)'"
BESIDE = ("sh", "-c", f'exec </dev/null; {_PROCESS} & sleep 0.3; "$@"; code=$?; kill $!; exit $code', "sh")
# Linux 6.14 and later let CAP_PERFMON look at the maps of others too.
WITHOUT = ("cap_19", "cap_2", "cap_1", "cap_38", "cap_21")
ALL = ("cap_2", "cap_19", "cap_38", "cap_39", "cap_40")
# What may hide something, and hides nothing where there is nothing to hide.
PERHAPS = {"CAP_CHECKPOINT_RESTORE", "map-files", "not-all-tried", "cgroup2"}


def nobody_with(*capabilities: str) -> tuple[str, ...]:
    """Nobody, and these capabilities in the ambient set, as a unit gives them."""
    given = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={given}") + (
        (f"--ambient-caps={given}",) if capabilities else ()
    )


def root_without(*capabilities: str) -> tuple[str, ...]:
    """Root as in a container: the bounding set lacks these."""
    dropped = ",".join(f"-{name}" for name in capabilities)
    return ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")


def after(script: str) -> tuple[str, ...]:
    """After a change of mounts, which only this namespace sees; 77: it could not be made."""
    return ("sh", "-c", f'{script} || exit 77; "$@"; exit $?', "sh")


def root_with(*capabilities: str) -> tuple[str, ...]:
    """Root as the unit makes him: these capabilities and no others, and nothing to be gained."""
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return ("setpriv", "--no-new-privs", f"--bounding-set={kept}", "--inh-caps=-all")


HIDEPID = after("mount -o remount,hidepid=2 /proc")
NO_BTF = after("mount -t tmpfs tmpfs /sys/kernel/btf")
IN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user")

CIRCUMSTANCES = {
    "root": (),
    "nobody": nobody_with(),
    "nobody with PTRACE": nobody_with("cap_19"),
    "nobody with PTRACE and DAC": nobody_with("cap_19", "cap_2"),
    "nobody with all of five": nobody_with(*ALL),
    "nobody with BPF": nobody_with("cap_39"),
    "nobody with BPF and PERFMON": nobody_with("cap_39", "cap_38"),
    "root of the unit": root_with(*ALL),
    "root without PTRACE and DAC": root_without(*WITHOUT),
    "root without BPF": root_without("cap_39", "cap_21"),
    "nobody under hidepid": (*HIDEPID, *nobody_with()),
    "nobody with PTRACE under hidepid": (*HIDEPID, *nobody_with("cap_19")),
    "root without BTF": NO_BTF,
    "root of a user namespace": IN_USER_NAMESPACE,
}


def alone(prefix: tuple[str, ...], *words: str, **options: Any) -> Done:  # noqa: ANN401 - run's
    """A command in a pid namespace of its own, in these circumstances."""
    done = run(*words, prefix=(*ALONE, *BESIDE, *prefix), **options)
    if done.returncode == 77 or (not done.stdout and re.search(rb"unshare|setpriv", done.stderr)):
        pytest.skip(f"these circumstances cannot be made: {done.stderr.decode().strip()[-200:]}")
    return done


def status(*words: str, code: int = 0, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - run's
    """The document."""
    done = run("status", "--format", "json", *words, **options)
    assert (done.returncode, said(done)) == (code, []), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """A state directory as an agent makes it."""
    with StateDirectory(str(tmp_path / "agent")) as directory:
        yield directory


# -- the truth -----------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_what_it_says_is_what_commands_then_do(circumstance: str) -> None:
    """It is believed at 3 a.m.: no command fails that it called working, or works that it called failing."""
    may_be_nobody()
    prefix = CIRCUMSTANCES[circumstance]

    # Given what it says
    done = alone(prefix, "status", "--format", "json")
    assert (done.returncode, said(done)) == (0, [])
    told = json.loads(done.stdout)["commands"]

    # When the commands are run, then each ends as it said; the three differ only in their probes
    for command in ("monitor", "files", "libs") if circumstance == "root" else ("monitor",):
        watched = alone(prefix, command, "--duration", "1", "--quiet")
        assert watched.returncode == told[command]["exit_code"], (command, watched.stderr)
        assert (told[command]["works"] == "not") is (watched.returncode != 0)
    # and the snapshot sees what it said that it would
    done = alone(prefix, "snapshot")
    assert done.returncode in (0, errors.EXIT_PRIVILEGE), done.stderr
    sections = json.loads(done.stdout)["inventory"]["manifest"]["sections"]
    is_whole = all(section["status"] == "complete" for section in sections.values())
    if told["snapshot"]["works"] == "fully":
        assert is_whole, sections
    elif set(told["snapshot"]["missing"]) - PERHAPS:
        assert not is_whole, told


@pytest.mark.root
@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("circumstance", ["nobody", "nobody with PTRACE", "root without PTRACE and DAC"])
def test_what_it_wants_granted_is_what_is_missing(circumstance: str) -> None:
    """The list of an unprivileged user, given to him, leaves nothing missing."""
    may_be_nobody()

    # Given what is missing in these circumstances
    done = alone(CIRCUMSTANCES[circumstance], "status", "--format", "json")
    missing = [one["name"] for one in json.loads(done.stdout)["missing"]]
    wanted = [name for name in missing if name.startswith("CAP_")]
    assert wanted

    # When nobody is given just these, and what he had
    own = {"nobody with PTRACE": {"CAP_SYS_PTRACE"}, "nobody": set()}.get(
        circumstance, {"CAP_CHECKPOINT_RESTORE"}
    )
    granted = nobody_with(*(f"cap_{CAPABILITIES[name]}" for name in {*wanted, *own}))
    commands = ["snapshot"] if circumstance.startswith("root") else ["snapshot", "monitor", "profile"]
    words = [word for command in commands for word in ("--for", command)]
    done = alone(granted, "status", "--format", "json", *words)

    # Then nothing is missing any more
    told = json.loads(done.stdout)
    assert {name: one["works"] for name, one in told["commands"].items()} == dict.fromkeys(commands, "fully")


@pytest.mark.root
@pytest.mark.kernel
def test_the_unit_gives_the_service_all_that_it_needs(house: Path) -> None:
    """Whoever installs it as it is has nothing to grant."""
    unit = (house / "agent" / "packaging" / "fleet-agent.service").read_text()
    names = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)
    assert names is not None
    numbers = [f"cap_{CAPABILITIES[name]}" for name in names[1].split()]

    words = ("--for", "snapshot", "--for", "monitor")
    told = json.loads(alone(root_with(*numbers), "status", "--format", "json", *words).stdout)

    assert told["agent"]["no_new_privs"] is True
    assert {one["works"] for one in told["commands"].values()} == {"fully"}, told["missing"]


def test_the_one_file_tells_the_same(frozen_agent: Path) -> None:
    """Another process tree, another libbpf, the same answers."""
    frozen = status(agent=(frozen_agent,))
    plain = status()

    assert frozen["commands"] == plain["commands"]
    assert frozen["tried"].keys() == plain["tried"].keys()


@pytest.mark.root
def test_a_capability_that_cannot_be_given_here_is_told_so() -> None:
    """In a container no sudo helps: what is missing is missing from the bounding set."""
    may_be_nobody()

    done = alone(root_without(*WITHOUT), "status", "--format", "json")

    told = json.loads(done.stdout)
    assert told["capabilities"]["CAP_SYS_PTRACE"] == {"effective": False, "bounding": False, "ambient": False}
    (ptrace,) = (one for one in told["missing"] if one["name"] == "CAP_SYS_PTRACE")
    assert "--cap-add=SYS_PTRACE" in ptrace["remedy"][0]


def test_it_says_what_does_not_work_and_what_does() -> None:
    """setcap(8) on the one file is what people try first, and the file cannot start with it."""
    may_be_nobody()

    done = run("status", prefix=AS_NOBODY)

    assert done.returncode == 0
    assert b"not by setcap" in done.stdout
    assert b"AmbientCapabilities=CAP_SYS_PTRACE" in done.stdout


@pytest.mark.root
def test_the_one_file_starts_with_ambient_capabilities_and_not_with_those_of_its_file(
    frozen_agent: Path, tmp_path: Path
) -> None:
    """What it says of setcap, tried."""
    may_be_nobody()
    if shutil.which("setcap") is None:
        pytest.skip("setcap is not installed")
    place = Path("/usr/local/lib/fleet-agent.test")
    shutil.copy(frozen_agent, place)
    try:
        place.chmod(0o755)
        ambient = run("version", agent=(place,), prefix=nobody_with("cap_19"))
        assert ambient.returncode == 0, ambient.stderr
        subprocess.run(["setcap", "cap_bpf,cap_perfmon=ep", place], check=True)
        # A clean drop: setpriv keeps capabilities over the change of user, and then none would be gained.
        by_file = run("version", agent=(place,), prefix=(*nobody_with(), "env"))
    finally:
        place.unlink()

    assert by_file.returncode != 0


# -- where this host stands ----------------------------------------------------------------------------------


def test_a_host_that_is_not_enrolled_is_told_how_to_be(tmp_path: Path) -> None:
    """And nothing is made by asking."""
    told = status("--state-dir", str(tmp_path / "agent"))

    assert told["enrolment"]["state"] == "not_enrolled"
    assert told["posts"]["is_waiting"] is None
    assert told["commands"]["run"]["works"] == "not"
    assert told["commands"]["run"]["exit_code"] == errors.EXIT_FAILURE
    assert os.listdir(tmp_path) == []


def test_an_enrolled_host_tells_where_and_since_when_and_what_was_posted(state: StateDirectory) -> None:
    """The first three questions of whoever is called."""
    # Given an enrolled host with a post behind it, a failure since, and a state that waits
    known, _ = enrolled(state, "https://fleet.example.org:8443", b"")
    last_post.note_delivery(state, 1_795_262_400_000_000_000, outcome="accepted", seq=7, next_post_s=600)
    last_post.note_failure(state, 1_795_263_000_000_000_000, "no route to host")
    spool.Spool(state, ensure_key(state)).put(draft("libssl"))

    # When it is asked
    told = status("--state-dir", state.path)
    shown = run("status", "--state-dir", state.path).stdout.decode()

    # Then it tells
    assert told["enrolment"]["host_id"] == known.host_id
    assert told["enrolment"]["url"] == known.url
    assert told["enrolment"]["since"] <= told["generated_at"]
    assert told["posts"]["is_waiting"] is True
    assert "accepted at 2026-11-21T12:00:00.000000Z, the next is due at 2026-11-21T12:10:00.000000Z" in shown
    assert "failed at 2026-11-21T12:10:00.000000Z: no route to host" in shown
    # and no secret of it
    secrets = [known.pseudonym_key.reveal(), Path(state.path, "host.key").read_text().splitlines()[1]]
    for secret in secrets:
        assert secret not in json.dumps(told) + shown


def test_asking_changes_nothing(state: StateDirectory) -> None:
    """Also where what is there is damaged: the next run sets it aside."""
    enrolled(state, "https://fleet.example.org:8443", b"")
    state.write("spool", b"damaged")

    def content() -> dict[str, tuple[bytes, int]]:
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(state.path).iterdir()
        }

    before = content()
    told = status("--state-dir", state.path)

    assert told["posts"]["damaged"] == ["spool"]
    assert content() == before


@pytest.mark.root
def test_a_directory_that_is_closed_to_us_is_unknown_not_unenrolled(state: StateDirectory) -> None:
    """Silence is not health."""
    may_be_nobody()
    enrolled(state, "https://fleet.example.org:8443", b"")

    told = status("--state-dir", state.path, prefix=AS_NOBODY)

    assert told["enrolment"]["state"] == "unknown"
    assert told["posts"]["seq"] is None
    assert "state-directory" in told["commands"]["run"]["missing"]


def test_a_configuration_that_is_wrong_is_told_and_what_it_stops(tmp_path: Path) -> None:
    """Commands that read it end with 1; the others do not."""
    toml = tmp_path / "agent.toml"
    toml.write_text("labls = 1\n")

    told = status("--config", str(toml))

    assert "did you mean labels?" in told["configuration"]["problem"]
    for command in ("run", "monitor", "files"):
        assert told["commands"][command]["exit_code"] == errors.EXIT_FAILURE
    assert told["commands"]["snapshot"]["works"] != "not"
    assert run("monitor", "-d", "1", "--config", toml).returncode == errors.EXIT_FAILURE


@pytest.mark.root
def test_the_kill_switch_is_told_with_its_reason() -> None:
    """It stops everything, and whoever set it had a reason."""
    # Given a host with the switch, in a namespace where /etc is a copy
    prefix = after(
        "mkdir -p /run/etc.test && mount -t tmpfs tmpfs /run/etc.test && cp -a /etc/. /run/etc.test &&"
        " mkdir -p /run/etc.test/cryptofleet &&"
        " echo 'change freeze, ask ops' >/run/etc.test/cryptofleet/disabled &&"
        " mount --bind /run/etc.test /etc"
    )

    done = alone(prefix, "status", "--format", "json")

    told = json.loads(done.stdout)
    assert told["switch"]["reason"] == "change freeze, ask ops"
    assert {one["works"] for one in told["commands"].values()} == {"not"}
    assert alone(prefix, "snapshot").returncode == told["commands"]["snapshot"]["exit_code"]


def test_a_scan_that_is_at_work_is_told(tmp_path: Path) -> None:
    """Who waits for the lock wants to know for whom."""
    with lock.held(60, print):
        told = status()

    assert re.search(rf"pid {os.getpid()}$", told["service"]["scanning"] or "")


# -- the document --------------------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_types() -> None:
    """Run `python -m agent.model.status` after a change."""
    assert model.SCHEMA_PATH.read_text() == model.schema_text()


def test_what_is_printed_keeps_to_the_published_schema() -> None:
    """Against a validator that we did not write; and no key is left out."""
    told = status()

    jsonschema.Draft202012Validator(json.loads(model.SCHEMA_PATH.read_text())).validate(told)
    assert told["status_version"] == "1.0"
    assert set(told["commands"]) == set(conditions.COMMANDS)
    assert None in {told["posts"]["delivered_at"], told["enrolment"]["since"]}


def test_strict_makes_what_is_missing_an_exit_code(tmp_path: Path) -> None:
    """A job that must see everything asks first; it asks about what it will run."""
    told = status("--for", "run", "--state-dir", str(tmp_path / "none"))
    assert told["missing"][0]["name"] == "enrolment"
    assert told["commands"].keys() == {"run"}

    strict = run("status", "--for", "run", "--strict", "--quiet", "--state-dir", tmp_path / "none")

    assert (strict.returncode, strict.stdout) == (errors.EXIT_PARTIAL, b"")
    assert run("status", "--for", "nonsense").returncode == errors.EXIT_USAGE


def test_it_needs_no_root() -> None:
    """Who has least asks most."""
    may_be_nobody()

    told = status(prefix=AS_NOBODY)

    assert told["agent"]["user"] == "nobody"
    assert {"CAP_BPF", "CAP_SYS_PTRACE"} <= {one["name"] for one in told["missing"]}


def test_every_missing_thing_has_a_reason_a_meaning_and_a_remedy() -> None:
    """Three lines for whoever is called at night."""
    may_be_nobody()

    for one in status(prefix=AS_NOBODY)["missing"]:
        assert all(one[key] and all(one[key]) for key in ("why", "means", "remedy", "commands"))


def test_the_readme_s_lines_are_understood_and_its_table_names_what_scanners_need(house: Path) -> None:
    """People copy them."""
    may_be_nobody()
    readme = (house / "agent" / "README.md").read_text()
    lines = re.findall(r"^    (fleet-agent .*)$", readme, re.MULTILINE)
    wanted = {need for module in discover.plugins(scanners).values() for need in module.SPEC.needs}
    wanted |= {need for module in discover.plugins(probes).values() for need in module.SPEC.needs}

    assert wanted
    assert {name for name in wanted if name not in readme} == set()
    assert lines
    for line in lines:
        for part in re.split(r"\|\|?", line):
            words = part.split()
            if words[0] == "fleet-agent":
                assert callable(cli.build_parser(words[1:]).parse_args(words[1:]).run)
    recipe = next(line for line in lines if "jq" in line).partition("jq -r ")[2].strip("'")
    document = json.dumps(status(prefix=AS_NOBODY))
    assert "CAP_BPF: run it as root: sudo fleet-agent ...\n" in jq(recipe, document.encode(), "-r")
