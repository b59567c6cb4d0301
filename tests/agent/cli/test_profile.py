# SPDX-License-Identifier: Apache-2.0
"""Profiles as users get them: real programs use keys while the real command watches one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import errors
from agent.model import canonical
from tests.agent import openssl
from tests.agent.cli.commands import AS_NOBODY, jq, may_be_nobody, run, said
from tests.agent.cli.watching import Watching, until

Start = Callable[..., subprocess.Popen[bytes]]

# Waits until it is told, loads OpenSSL, uses a certificate and its key, holds the key open, and waits again.
TLS = """
import sys
sys.stdin.readline()
import ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
held = open(sys.argv[2], "r+")
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, which nobody else on this machine opens."""
    made = openssl.make(tmp_path, "/CN=localhost")
    certificate, key = tmp_path / "web.crt", tmp_path / "web.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*words: str | Path, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - Popen's
        given: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
        }
        process = subprocess.Popen([*words], **(given | options))
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def tell(process: subprocess.Popen[bytes]) -> None:
    """Let a program take its next step."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has taken it."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"


def profile_of(pid: int, *words: str | Path) -> Watching:
    """The command at work on a process."""
    return Watching("--pid", str(pid), *words, command="profile")


def result(watching: Watching, number: int | None = signal.SIGINT) -> dict[str, Any]:
    """Its document."""
    document: dict[str, Any] = json.loads(watching.finish(number))
    assert watching.process.returncode == 0, watching.said
    return document


def files(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its files by path."""
    return {file["path"]: file for file in document["files_accessed"]}


@pytest.mark.root
@pytest.mark.kernel
def test_what_a_program_loads_and_opens_is_in_its_profile(pair: tuple[Path, Path], start: Start) -> None:
    """From an idle interpreter to a server with a key, seen from outside."""
    process = start(sys.executable, "-S", "-c", TLS, *pair)
    watching = profile_of(process.pid, "--no-redact")
    tell(process)
    hear(process)
    document = result(watching)

    certificate, key = (files(document)[str(path)] for path in pair)
    assert (certificate["type"], certificate["kind"], certificate["mode"]) == (
        "certificate",
        "certificate",
        "read",
    )
    assert (key["type"], key["kind"], key["mode"]) == ("private_key", "pkcs8", "read-write")
    assert key["access_count"] == 2
    assert document["process"]["start_time"] < key["first_access"] <= key["last_access"]
    assert key["last_access"] < document["generated_at"]
    libraries = {library["name"]: library for library in document["libraries"]}
    mapped = Path(f"/proc/{process.pid}/maps").read_text()
    assert libraries["libssl"]["path"] in mapped
    assert libraries["libcrypto"]["path"] in mapped
    assert "before_window" not in libraries["libssl"]
    assert document["process"]["start_time"] < libraries["libssl"]["load_time"] <= key["first_access"]
    assert document["statistics"]["libraries_loaded"] == len(document["libraries"])
    assert document["statistics"]["total_events"] >= 5
    assert document["coverage"]["status"] == "complete"


@pytest.mark.root
@pytest.mark.kernel
def test_what_was_there_before_is_in_it_too(pair: tuple[Path, Path], start: Start) -> None:
    """A server that has long been running does nothing more while it is watched."""
    process = start(sys.executable, "-S", "-c", TLS, *pair)
    tell(process)
    hear(process)
    document = result(profile_of(process.pid, "--no-redact", "--duration", "1"), None)

    began = document["process"]["start_time"]
    names = {library["name"]: library for library in document["libraries"]}
    assert {"libssl", "libcrypto"} <= set(names)
    assert all((one["before_window"], one["load_time"]) == (True, began) for one in document["libraries"])
    key = files(document)[str(pair[1])]
    assert (key["type"], key["mode"], key["access_count"]) == ("private_key", "read-write", 1)
    assert (key["before_window"], key["first_access"]) == (True, began)
    assert began < key["last_access"] < document["generated_at"]
    assert document["statistics"]["total_events"] == 0
    assert document["duration_seconds"] == 1


@pytest.mark.root
@pytest.mark.kernel
def test_a_server_of_openssl_s_own(pair: tuple[Path, Path], start: Start) -> None:
    """Written by somebody else, in C, and used by a client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate, key = pair
    process = start(
        "sh", "-c",
        f"read line; exec openssl s_server -accept 127.0.0.1:{port} -cert {certificate} -key {key}"
        " -pass pass:S3cr3t -www -naccept 1",
    )  # fmt: skip
    watching = profile_of(process.pid, "--no-redact")
    tell(process)
    context = ssl.create_default_context(cafile=str(certificate))

    def is_answered() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return bool(secure.recv(10))
        except ConnectionRefusedError:
            return False

    until(is_answered)
    document = result(watching, None)  # it ends with the server

    assert document["process"]["name"] == "openssl"
    assert document["process"]["exe"] == os.path.realpath(shutil.which("openssl") or "")
    assert "-pass pass:***" in document["process"]["cmdline"]
    assert b"S3cr3t" not in watching.out
    assert document["process"]["exit_code"] == 0
    assert files(document)[str(key)]["type"] == "private_key"
    assert {library["name"] for library in document["libraries"]} >= {"libssl", "libcrypto"}


@pytest.mark.root
@pytest.mark.kernel
def test_children_are_told_apart(pair: tuple[Path, Path], start: Start) -> None:
    """With --follow-children; without it they are nobody's."""
    certificate, key = pair
    script = f"cat; sleep 1000 & sh -c 'cat {key}; exit 3'; cat {certificate}; kill $!; exit 0"
    for follow in (True, False):
        process = start("sh", "-c", script)
        watching = profile_of(process.pid, "--no-redact", *(("--follow-children",) if follow else ()))
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        document = result(watching, None)

        assert files(document) == {}
        assert document["process"]["exit_code"] == 0
        if not follow:
            assert "children" not in document
            continue
        by_file = {path: child for child in document["children"] for path in files(child)}
        assert by_file[str(key)]["process"]["name"] == "cat"
        assert by_file[str(certificate)]["process"]["name"] == "cat"
        codes = [child["process"].get("exit_code") for child in document["children"]]
        assert 3 in codes
        ppids = {child["process"]["pid"]: child["process"]["ppid"] for child in document["children"]}
        assert ppids[by_file[str(certificate)]["process"]["pid"]] == process.pid
        assert by_file[str(key)]["process"]["pid"] != by_file[str(certificate)]["process"]["pid"]


@pytest.mark.root
@pytest.mark.kernel
def test_children_that_were_there_before_are_followed(pair: tuple[Path, Path], start: Start) -> None:
    """Workers are started long before anybody looks."""
    script = f"sh -c 'echo done; read line; cat {pair[1]}' 0<&0; true"
    process = start("sh", "-c", script)
    hear(process)
    watching = profile_of(process.pid, "--no-redact", "--follow-children")
    tell(process)
    document = result(watching, None)

    assert any(str(pair[1]) in files(child) for child in document["children"])
    assert all(one["process"]["start_time"].endswith("Z") for one in document["children"])


@pytest.mark.root
@pytest.mark.kernel
@pytest.mark.parametrize("name", [bytes(range(1, 16)), b"\xff\xfe\n\\x\x1b[31m"])
def test_any_name_of_a_process_gives_a_valid_document(name: bytes, start: Start) -> None:
    """15 bytes of its own choice; crypto-tracer wrote beyond the end of a buffer."""
    rename = f"import ctypes; ctypes.CDLL(None).prctl(15, bytes.fromhex('{name.hex()}'), 0, 0, 0)"
    process = start(sys.executable, "-c", f"{rename}; print('done', flush=True); input()")
    hear(process)
    done = run("profile", "--pid", str(process.pid), "--duration", "1")

    assert json.loads(done.stdout)["process"]["name"] == canonical.escape_bytes(name)
    assert all(line.isprintable() for line in said(done))


@pytest.mark.root
@pytest.mark.kernel
def test_a_killed_process_is_told_with_its_signal(start: Start) -> None:
    """And the watch is over: nobody waits for the rest of the time."""
    process = start("sleep", "1000")
    watching = profile_of(process.pid, "--duration", "1000")
    process.kill()
    document = result(watching, None)

    assert (document["process"]["exit_code"], document["process"]["exit_signal"]) == (137, "SIGKILL")


@pytest.mark.root
@pytest.mark.kernel
def test_a_stopped_process_and_a_ctrl_c(start: Start) -> None:
    """A process that does not run at all is looked at all the same; what was seen is printed."""
    process = start("sleep", "1000")
    process.send_signal(signal.SIGSTOP)
    watching = profile_of(process.pid, "--duration", "0")
    document = result(watching, signal.SIGTERM)
    process.send_signal(signal.SIGCONT)

    assert document["process"]["pid"] == process.pid
    assert document["duration_seconds"] < 60


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.kernel
def test_the_name_finds_the_first_and_says_how_many_there_are(start: Start, tmp_path: Path) -> None:
    """Of several, one document of one process."""
    program = tmp_path / "zqnamed"
    shutil.copy(shutil.which("sleep") or "", program)
    first, second = start(program, "1000"), start(program, "1000")
    until(lambda: Path(f"/proc/{second.pid}/comm").read_text() == "zqnamed\n")
    done = run("profile", "--name", "qnam", "--duration", "1")

    assert json.loads(done.stdout)["process"]["pid"] == min(first.pid, second.pid)
    assert "1 more processes are called like 'qnam'" in said(done)[0]
    quiet = run("profile", "--name", "qnam", "--duration", "1", "--quiet")
    assert quiet.stderr == b""
    verbose = run("profile", "--name", "qnam", "--duration", "1", "--verbose")
    assert any("file_open: by libbpf" in line for line in said(verbose))
    both = run("profile", "--name", "other", "--pid", str(first.pid))
    assert (both.returncode, both.stdout) == (errors.EXIT_FAILURE, b"")


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.kernel
def test_each_format_prints_the_same_document(start: Start, tmp_path: Path) -> None:
    """One line, an array of one, indented, and words; into a file that only its owner reads."""
    process = start("sleep", "1000")
    path = tmp_path / "profile.json"
    common = ("profile", "--pid", str(process.pid), "--duration", "1", "--quiet")
    stream = run(*common, "--format", "json-stream").stdout
    (array,) = json.loads(run(*common, "--format", "json-array").stdout)
    summary = run(*common, "--format", "summary").stdout.decode()
    written = run(*common, "--output", path)

    assert stream.count(b"\n") == 1
    assert set(json.loads(stream)) == set(array)
    assert summary.startswith(f"sleep (pid {process.pid})")
    assert "total events: 0" in summary
    assert written.stdout == b""
    assert json.loads(path.read_bytes())["process"] == array["process"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b'{\n  "profile_version"')


@pytest.mark.root
@pytest.mark.kernel
def test_users_recipes_read_it(pair: tuple[Path, Path], start: Start) -> None:
    """By the real jq: moments that parse, lists that are lists, also where nothing was seen."""
    process = start(sys.executable, "-S", "-c", TLS, *pair)
    tell(process)
    hear(process)
    watching = profile_of(process.pid, "--duration", "1")
    watching.finish(None)

    moments = ".generated_at, .process.start_time, .libraries[].load_time, .files_accessed[].first_access"
    for moment in jq(moments, watching.out, "-r").splitlines():
        assert canonical.parse_timestamp(moment).year >= 2024
    assert jq(".api_calls | length", watching.out) == "0\n"
    assert jq(
        ".statistics | [.libraries_loaded, .files_accessed] | map(type) | unique[]", watching.out, "-r"
    ) == ("number\n")
    keys = jq('[.files_accessed[] | select(.type == "private_key") | .access_count] | add', watching.out)
    assert keys == "1\n"


def test_which_process_must_be_said() -> None:
    """Neither a number nor a name is a mistake of the command line."""
    done = run("profile")

    assert done.returncode == errors.EXIT_USAGE
    assert "--pid or --name" in said(done)[-1]


@pytest.mark.parametrize(
    "words", [("--pid", "0"), ("--pid", "x"), ("--name", ""), ("--pid", "1", "--library", "x")]
)
def test_what_means_nothing_is_a_mistake_of_the_command_line(words: tuple[str, ...]) -> None:
    """Told before anything is attached."""
    assert run("profile", *words).returncode == errors.EXIT_USAGE


@pytest.mark.root
def test_a_process_that_is_not_there_is_a_failure(start: Start) -> None:
    """With nothing on standard output that a script could take for an answer."""
    process = start("true")
    process.wait()
    for words in (("--pid", str(process.pid)), ("--name", "no process is called")):
        done = run("profile", *words)
        assert (done.returncode, done.stdout) == (errors.EXIT_FAILURE, b"")
        assert len(said(done)) == 1


@pytest.mark.root
def test_without_privilege_it_is_said_and_exit_3(start: Start) -> None:
    """Whoever may not watch gets no document of nothing."""
    may_be_nobody()
    process = start("sleep", "1000")
    done = run("profile", "--pid", str(process.pid), prefix=AS_NOBODY)

    assert (done.returncode, done.stdout) == (errors.EXIT_PRIVILEGE, b"")
    assert "CAP_BPF" in said(done)[-1]


@pytest.mark.root
@pytest.mark.kernel
def test_a_process_in_a_container_is_looked_at_in_its_container(
    pair: tuple[Path, Path], start: Start
) -> None:
    """By the same path the host has another file, or none."""
    place = pair[1].parent / "inside"
    place.mkdir()
    process = start(
        "unshare", "--mount", "sh", "-c",
        f"mount -t tmpfs none {place} && cp {pair[1]} {place}/a.pem && echo done && read line"
        f" && read first < {place}/a.pem && echo done && read line",
    )  # fmt: skip
    assert process.stdout is not None
    if process.stdout.readline() != b"done\n":
        pytest.skip("no mount namespace can be made here")
    watching = profile_of(process.pid, "--no-redact")
    tell(process)
    hear(process)
    found = files(result(watching))[f"{place}/a.pem"]

    assert (found["type"], found["kind"], found["access_count"]) == ("private_key", "pkcs8", 1)
