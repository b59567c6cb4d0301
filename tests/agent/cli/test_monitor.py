# SPDX-License-Identifier: Apache-2.0
"""Events as users see them: real programs open files and end while the real command watches."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.model import canonical
from tests.agent import openssl
from tests.agent.cli.commands import AS_NOBODY, jq, may_be_nobody, run, said
from tests.agent.cli.watching import Watching, of, open_with


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file that is called like a key, which nobody else on this machine opens."""
    key = tmp_path / f"{uuid.uuid4()}.key"
    key.touch()
    return key


@pytest.mark.root
@pytest.mark.kernel
def test_an_open_is_told_with_who_what_and_how_it_ended(key: Path) -> None:
    """The fields that users' scripts read, and a file that is not there."""
    watching = Watching()
    open_with("cat", key, f"{key}.missing.crt")
    events = watching.end()

    (event,) = of(events, key)
    assert event.pop("pid") == event.pop("tid")
    assert canonical.parse_timestamp(event.pop("timestamp")).year >= 2024
    assert event.pop("result") >= 0
    assert event.pop("exe").endswith("/cat")
    assert event.pop("unit")
    assert event == {
        "event_type": "file_open",
        "uid": 0,
        "gid": 0,
        "user": "root",
        "process": "cat",
        "file": str(key),
        "file_type": "unknown",
        "flags": "O_RDONLY",
    }
    (missing,) = of(events, f"{key}.missing.crt")
    assert (missing["result"], missing["error"]) == (-2, "ENOENT")
    assert missing["file_type"] == "certificate"  # what its name promises


@pytest.mark.root
@pytest.mark.kernel
def test_a_file_is_called_what_its_bytes_are(tmp_path: Path) -> None:
    """However it is called, as long as it is opened by a name that is looked for."""
    pair = openssl.make(tmp_path, "/CN=web")
    planted = {
        "a.pem": (pair.certificate, "certificate"),
        "b.pem": (pair.key, "private_key"),
        "c.crt": (pair.key, "private_key"),
        "id_web": (pair.key, "private_key"),
        "d.pem": (b"-----BEGIN CERT", "unknown"),
        "e.pem": (pair.certificate + pair.key, "private_key"),
    }
    for name, (data, _) in planted.items():
        (tmp_path / name).write_bytes(data)
    watching = Watching()
    open_with("cat", *(tmp_path / name for name in planted))
    events = watching.end()

    found = {name: [event["file_type"] for event in of(events, tmp_path / name)] for name in planted}
    assert found == {name: [kind] for name, (_, kind) in planted.items()}
    assert {event.get("file_kind") for event in of(events, tmp_path / "a.pem")} == {"certificate"}


@pytest.mark.root
@pytest.mark.kernel
def test_the_recipes_of_users_work_on_the_stream(key: Path) -> None:
    """By the real jq: one whole event on each line."""
    watching = Watching()
    open_with("cat", key)
    open_with("head", key)
    watching.end()

    mine = f'select(.file == "{key}")'
    out = watching.out
    assert jq(f'{mine} | select(.process == "cat") | .event_type', out, "-r") == "file_open\n"
    assert jq(f"map({mine}) | length", out, "-s") == "2\n"
    grouped = "group_by(.process) | map({process: .[0].process, count: length})"
    counted = jq(f"map({mine}) | {grouped}", out, "-s")
    assert json.loads(counted) == [{"process": "cat", "count": 1}, {"process": "head", "count": 1}]
    timeline = jq(f"{mine} | [.timestamp, .event_type, .process, .file] | @tsv", out, "-r")
    assert [line.split("\t")[1:] for line in timeline.splitlines()] == [
        ["file_open", "cat", str(key)],
        ["file_open", "head", str(key)],
    ]


@pytest.mark.root
@pytest.mark.kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_is_an_ordinary_end(key: Path, number: int) -> None:
    """All that was seen is printed, with the account, and the exit code is that of success."""
    watching = Watching()
    open_with("cat", key)
    assert of(watching.end(number), key)

    assert watching.process.returncode == errors.EXIT_COMPLETE
    first, account = watching.said
    assert first == "fleet-agent: watching file_open until Ctrl-C"
    assert re.fullmatch(r"fleet-agent: file_open: \d+ shown of \d+, 0 lost; method: libbpf CO-RE", account)


@pytest.mark.root
@pytest.mark.kernel
def test_people_are_hidden_in_every_name_of_an_event(key: Path) -> None:
    """The name as the program wrote it tells as much as the path that it means."""
    # Given opens in a home, by its path and by a relative name that goes through it
    mine = key.name
    names = [f"/home/alice/{mine}", f"/root/{mine}", f"/../home/alice/./{mine}"]
    for words, is_hidden in ((), True), (("--no-redact",), False):
        watching = Watching(*words)
        open_with("cat", *names)
        subprocess.run(["cat", f"../home/alice/{mine}"], check=False, capture_output=True, cwd="/tmp")
        # When they are printed, and the truth is not asked for
        events = [event for event in watching.end() if event["file"].endswith(mine)]
        # Then nobody is named
        assert len(events) == 4
        assert ("alice" not in json.dumps(events)) is is_hidden
        assert max(event["file"] for event in events) == (
            f"/home/USER/{mine}" if is_hidden else f"/root/{mine}"
        )
        assert any("file_raw" in event for event in events) is not is_hidden


@pytest.mark.root
@pytest.mark.kernel
def test_no_name_of_a_file_or_program_breaks_a_line(key: Path) -> None:
    """An event is one line of JSON, whatever its words are, and the words are what the kernel heard."""
    # Given a program and files with names that a terminal would obey
    program = os.fsencode(key.parent) + b'/c\na\x1b"\xff'
    shutil.copy(shutil.which("cat") or "/bin/cat", os.fsdecode(program))
    names = [os.fsencode(key) + odd + b".pem" for odd in (b"\n", b"\x1b[31m", b'"', b"\\", b"\xff", b"\xc3")]
    watching = Watching()
    # When it opens them
    subprocess.run([program, *names], check=False, capture_output=True)
    events = [event for event in watching.end() if event["file"].startswith(str(key))]
    # Then each is told as it is called
    assert [canonical.unescape_text(event["file"]) for event in events] == names
    assert {canonical.unescape_text(event["exe"]) for event in events} == {program}
    assert {canonical.unescape_text(event["process"]) for event in events} == {b'c\na\x1b"\xff'}
    assert b"\x1b" not in watching.out


@pytest.fixture
def unit() -> Iterator[Path]:
    """A cgroup that is called like a service, in the unified hierarchy."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            unit = Path(before.split()[4]) / f"planted-{uuid.uuid4().hex[:8]}.service"
            break
    else:
        pytest.skip("the unified hierarchy of cgroups is not mounted")
    try:
        unit.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    yield unit
    unit.rmdir()


def open_in(unit: Path, path: Path) -> None:
    """A program of that unit opens the file."""
    code = f'echo $$ > {unit}/cgroup.procs && exec cat "$0"'
    subprocess.run(["sh", "-c", code, str(path)], check=True, capture_output=True)


@pytest.mark.root
@pytest.mark.kernel
def test_the_unit_of_a_program_is_told(key: Path, unit: Path) -> None:
    """It is what people know a service by; also one that began while we watched others."""
    watching = Watching()
    open_with("cat", key)
    open_in(unit, key)
    outside, inside = of(watching.end(), key)

    assert inside["unit"] == unit.name
    assert outside["unit"] != unit.name


@pytest.mark.root
@pytest.mark.kernel
def test_a_reader_that_has_gone_ends_it_quietly(key: Path) -> None:
    """`| head -1`."""
    reading, writing = os.pipe()
    watching = Watching(stdout=writing)
    os.close(writing)
    os.close(reading)

    open_with("cat", key)
    _, err = watching.process.communicate(timeout=60)

    assert (watching.process.returncode, err) == (errors.EXIT_COMPLETE, b"")


@pytest.mark.root
@pytest.mark.kernel
def test_a_look_by_hand_leaves_nothing_behind(key: Path, tmp_path: Path) -> None:
    """Where there is no state directory this host is in no fleet, and none is made."""
    state = tmp_path / "state"
    watching = Watching("--state-dir", str(state))
    open_with("cat", key)

    assert of(watching.end(), key)
    assert not state.exists()


@pytest.mark.root
@pytest.mark.kernel
def test_a_state_directory_that_is_not_to_be_trusted_hinders_no_look(key: Path, tmp_path: Path) -> None:
    """Whoever has the capabilities may watch; that it is not remembered is said."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    watching = Watching("--state-dir", str(state))
    open_with("cat", key)

    assert of(watching.end(), key)
    assert watching.process.returncode == 0
    assert watching.said[-1].endswith("; what was seen is not remembered")
    assert os.listdir(state) == []


@pytest.mark.root
@pytest.mark.kernel
def test_what_was_seen_is_in_the_next_document(key: Path, unit: Path, tmp_path: Path) -> None:
    """On a host that is part of a fleet: by file, program and unit, people hidden."""
    # Given a state directory, and a program that opened two files while somebody watched
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    watching = Watching("--state-dir", str(state))
    open_in(unit, key)
    open_with("cat", f"/home/alice/{key.name}")
    watching.end()

    # When the host is looked at without watching
    words = ("run", "--once", "--scanner", "host", "--state-dir", state)
    done = run(*words, "--sink", "stdout")

    # Then both are among the observed files
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    section = document["manifest"]["sections"]["observed_files"]
    assert section["sampled"]
    assert section["rung"].startswith("libbpf")
    (part,) = (document["parts"][digest] for digest in section["parts"].values())
    mine = {entry["key"]: entry for entry in part if key.name in entry["key"]}
    cat = os.path.realpath("/usr/bin/cat")
    assert mine.pop(f"{cat} {unit.name} {key}") == {
        "key": f"{cat} {unit.name} {key}",
        "asset": {"kind": "file-use", "access": ["read"], "results": ["opened"]},
        "where": {"path": str(key), "exe": cat, "unit": unit.name},
    }
    ((name, other),) = mine.items()
    assert name.endswith(f"/home/USER/{key.name}")
    assert other["asset"]["results"] == ["missing"]
    assert "alice" not in json.dumps(other)


@pytest.mark.root
@pytest.mark.kernel
def test_a_window_of_a_run_folds_and_remembers(key: Path, tmp_path: Path) -> None:
    """What `run` sees itself is in its own document, however often the file was opened."""
    out, state = tmp_path / "out.json", tmp_path / "state"
    code = "import sys\nwhile not sys.stdin.closed:\n    open(sys.argv[1]).close()\n"
    with subprocess.Popen([sys.executable, "-c", code, str(key)], stdin=subprocess.DEVNULL) as opener:
        try:
            done = run(
                "run", "--once", "--window", "1", "--sink", "file", "--scanner", "host", "--state-dir", state,
                env={"CRYPTOFLEET_AGENT_SINK_FILE_PATH": str(out)},
            )  # fmt: skip
        finally:
            opener.kill()

    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    section = document["manifest"]["sections"]["observed_files"]
    if section["status"] == "failed":
        pytest.skip(section["reason"])
    entries = [entry for part in document["parts"].values() for entry in part]
    (mine,) = [entry for entry in entries if entry["where"].get("path") == str(key)]
    assert mine["where"]["exe"] == os.path.realpath(sys.executable)
    assert document["live"]["observed_files"]["file_open_events"] > 1


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_without_privilege_it_says_what_to_grant() -> None:
    """Exit code 3, and nothing on standard output."""
    may_be_nobody()

    done = run("monitor", "--duration", "1", prefix=AS_NOBODY)

    assert (done.returncode, done.stdout) == (errors.EXIT_PRIVILEGE, b"")
    (words,) = said(done)
    assert "CAP_BPF and CAP_PERFMON" in words
    assert "run it as root, or grant" in words


# What a kernel does that has the programs, and attaches none.
ATTACHES_NOTHING = """
import sys
from agent import cli
from agent.kernel.libbpf import BpfError
from agent.kernel.object import BpfObject
def attach(self, program):
    raise BpfError("attach", self.name, program, 95, "EOPNOTSUPP")
BpfObject.attach = attach
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.root
@pytest.mark.kernel
def test_where_nothing_can_be_attached_it_says_so() -> None:
    """Exit code 5: the kernel took the programs, and runs none of them."""
    done = run("monitor", "--duration", "1", agent=(sys.executable, "-c", ATTACHES_NOTHING))

    if done.returncode == errors.EXIT_KERNEL:
        pytest.skip(done.stderr.decode())
    assert (done.returncode, done.stdout) == (errors.EXIT_ATTACH, b"")
    for probe in ("file_open", "lib_load", "process_exec", "process_exit"):
        assert f"{probe} could not be attached: ENOTSUP: " in said(done)[0]


@pytest.mark.root
def test_a_kernel_that_does_not_describe_itself_is_exit_code_4() -> None:
    """Where /sys is not there, nothing can be adjusted to the kernel."""
    hidden = 'mount -t tmpfs none /sys || exit 77; exec "$@"'

    done = run("monitor", "--duration", "1", prefix=("unshare", "--mount", "sh", "-c", hidden, "sh"))

    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip(done.stderr.decode())
    assert (done.returncode, done.stdout) == (errors.EXIT_KERNEL, b"")
    assert "this kernel has no /sys/kernel/btf/vmlinux" in said(done)[0]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--duration", "-1"), "is not a whole number of seconds"),
        (("--duration", "9" * 5000), "is not a whole number of seconds"),
        (("--format", "inventory"), "choose from 'json-array', 'json-pretty', 'json-stream', 'summary'"),
    ],
)
def test_what_means_nothing_is_a_usage_error(words: tuple[str, ...], complaint: str) -> None:
    """Before anything is attached."""
    done = run("monitor", *words)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert complaint in said(done)[-1]
