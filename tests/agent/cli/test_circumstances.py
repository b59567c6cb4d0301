# SPDX-License-Identifier: Apache-2.0
"""Does the command answer, or say why not, wherever it is started: by nobody, in any locale, stopped?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import cli, errors
from tests.agent import openssl
from tests.agent.cli.commands import ALONE, AS_NOBODY, Done, jq, may_be_nobody, run, said, snapshot
from tests.agent.fake_host import FILES, LIBCRYPTO, LIBSSL, FakeHost

# A program that uses cryptography, runs another, and ends as that one ends.
WITH_TLS = (sys.executable, "-c", "import ssl, subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))")
# Stays beside what it runs, so that there is a process of root's to look at.
BESIDE = ("sh", "-c", '"$@"; exit $?', "sh")
NOTHING = {"total_processes": 0, "total_libraries": 0, "total_files": 0}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write to; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """A host with names in several languages, and in none."""
    root = tmp_path_factory.mktemp("host")
    pem = openssl.make(root, "/CN=web").certificate
    web = FakeHost(root / "web")
    web.file("/etc/ssl/café/日.pem", pem)
    web.file(b"/etc/ssl/j\xf6rg.pem", pem)
    web.file(b"/etc/ssl/back\\slash\n.pem", pem)
    web.file("/usr/lib/libssl-é日.so", FILES[LIBSSL])
    web.process(
        10, "café日".encode(), exe="/opt/café/日", libraries=["/usr/lib/libssl-é日.so", LIBCRYPTO],
        fds=["/home/alice/kéy.key", b"/etc/ssl/j\xf6rg.pem"],
        cgroup="0::/system.slice/café日.service\n".encode(),
    )  # fmt: skip
    web.process(11, b"j\xf6rg", exe=b"/opt/j\xf6rg")
    return web


def content(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what differs at every look, and by how the agent was packed."""
    del document["generated_at"], document["inventory"]["manifest"]["collected_at"]
    del document["inventory"]["manifest"]["agent"]
    return document


# -- in namespaces of its own --------------------------------------------------------------------------------


@pytest.mark.root
def test_what_a_process_was_started_with_in_another_mount_namespace_hides_nothing() -> None:
    """Every container's /dev/null is such a file, and none of them may keep a host partial for ever."""
    done = run("snapshot", "--scanner", "processes", "--strict", prefix=(*ALONE, *BESIDE, *WITH_TLS))
    if not done.stdout and b"unshare" in done.stderr:
        pytest.skip(f"no pid namespace: {done.stderr.decode().strip()}")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inventory"]["manifest"]["sections"]["processes"]["status"] == "complete"


# -- by nobody -----------------------------------------------------------------------------------------------


def alone(*prefix: str | Path, words: tuple[str, ...] = ()) -> Done:
    """A snapshot by nobody, in a pid namespace in which otherwise only a shell of root's runs."""
    may_be_nobody()
    done = run("snapshot", *words, prefix=(*ALONE, *BESIDE, *AS_NOBODY, *prefix))
    if not done.stdout and b"unshare" in done.stderr:
        pytest.skip(f"no pid namespace: {done.stderr.decode().strip()}")
    return done


@pytest.mark.root
def test_totals_of_nothing_are_an_error_for_who_could_not_look() -> None:
    """Nobody sees only his own processes: 0 would be read as "no cryptography here"."""
    done = alone()

    assert done.returncode == errors.EXIT_PRIVILEGE
    document = json.loads(done.stdout)
    assert document["summary"] == NOTHING
    assert document["inventory"]["manifest"]["sections"]["processes"]["skipped"] == {"denied": 1}
    assert said(done)[-2:] == [
        "fleet-agent: processes is partial: 1 not permitted",
        (
            "fleet-agent: totals of 0 mean nothing: 1 not permitted among the processes; run as root, or"
            " grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        ),
    ]


@pytest.mark.root
def test_nobody_sees_his_own_processes_and_hears_of_the_others() -> None:
    """Useful without root, and honest about it."""
    done = alone(*WITH_TLS)

    assert done.returncode == 0
    (process,) = json.loads(done.stdout)["processes"]
    assert process["exe"] == os.path.realpath(sys.executable)
    assert any("libssl" in library for library in process["libraries"])
    assert any(line.startswith("fleet-agent: processes is partial: 1 not permitted") for line in said(done))
    assert alone(*WITH_TLS, words=("--strict",)).returncode == errors.EXIT_PARTIAL


@pytest.mark.root
def test_processes_that_proc_does_not_list_are_missed_aloud() -> None:
    """With hidepid nobody denies anything: there is simply nothing to see."""
    remounted = ("sh", "-c", 'mount -o remount,hidepid=2 /proc || exit 77; "$@"; exit $?', "sh")
    may_be_nobody()

    done = run("snapshot", prefix=(*ALONE, *remounted, *AS_NOBODY))

    if done.returncode == 77:
        pytest.skip(f"/proc cannot be remounted: {done.stderr.decode().strip()}")
    assert done.returncode == errors.EXIT_PRIVILEGE
    state = json.loads(done.stdout)["inventory"]["manifest"]["sections"]["processes"]
    assert state["status"] == "partial"
    assert state["examples"] == ["denied: /proc lists only our own processes (hidepid)"]


@pytest.mark.root
def test_nobody_hears_which_files_he_may_not_read(open_folder: Path) -> None:
    """Counted and named, people hidden, and the rest is there."""
    may_be_nobody()
    web = FakeHost(open_folder / "web")
    pem = openssl.make(open_folder, "/CN=web").certificate
    web.file("/etc/ssl/open.pem", pem)
    web.file("/etc/ssl/closed.pem", pem, 0o600)
    web.file("/home/alice/closed.pem", pem, 0o600)

    done = run("snapshot", "--root", web.root, prefix=AS_NOBODY)

    assert done.returncode == 0
    assert said(done) == ["fleet-agent: certificates is partial: 2 not permitted"]
    state = json.loads(done.stdout)["inventory"]["manifest"]["sections"]["certificates"]
    assert state["examples"] == ["denied: /etc/ssl/closed.pem", "denied: /home/USER/closed.pem"]
    recipe = '[.inventory.parts[][] | select(.asset.kind == "certificate") | .key]'
    assert json.loads(jq(recipe, done.stdout)) == ["/etc/ssl/open.pem"]


@pytest.mark.root
def test_a_place_that_is_not_nobodys_is_refused_by_the_kernels_reason(tmp_path: Path) -> None:
    """And nothing is written anywhere."""
    may_be_nobody()

    done = run("snapshot", "--scanner", "host", "--output", "/root-only.json", prefix=AS_NOBODY)

    assert done.returncode == errors.EXIT_FAILURE
    assert said(done)[-1] == "fleet-agent: cannot write /root-only.json: permission denied"


# -- a real process ------------------------------------------------------------------------------------------


def test_a_running_program_is_told_with_what_it_holds_open(tmp_path: Path) -> None:
    """What the kernel says of a process that we started and know."""
    # Given a program with TLS that holds a key open, and one whose name has gone
    held, gone = tmp_path / "held.key", tmp_path / "gone.PEM"
    held.touch()
    gone.touch()
    code = "import os, ssl, sys; held = [open(path) for path in sys.argv[1:]]; os.unlink(sys.argv[2]);"
    code += "print(flush=True);"
    command = [sys.executable, "-c", code + " sys.stdin.read()", str(held), str(gone)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        # When a snapshot is taken
        document = snapshot("--no-redact", "--scanner", "processes")
        program.communicate()

    # Then it is there, with all of it
    (process,) = [one for one in document["processes"] if one["pid"] == program.pid]
    assert process["name"] == Path(sys.executable).resolve().name[:15] or process["name"].startswith("python")
    assert process["exe"] == os.path.realpath(sys.executable)
    assert process["running_as"] == subprocess.check_output(["id", "-un"], text=True).strip()
    assert [path for path in process["libraries"] if "libssl" in path]
    assert process["open_crypto_files"] == [f"{gone} (deleted)", str(held)]


# -- surroundings --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale whose encoding is ISO 8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if not (folder / "en_US.ISO-8859-1").exists():
        pytest.skip(f"no such locale can be made: {made.stderr.strip()}")
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}


LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "xx_XX.nonsense"},
    {"PYTHONUTF8": "1"},
]


@pytest.mark.parametrize("env", LOCALES, ids=lambda env: " ".join(f"{k}={v}" for k, v in env.items()))
def test_the_same_host_is_the_same_document_in_every_locale(web: FakeHost, env: dict[str, str]) -> None:
    """Names on a host are bytes; whose terminal asks must not change them."""
    assert content(snapshot("--root", web.root, env=env)) == content(snapshot("--root", web.root))


def test_it_is_the_same_in_a_locale_of_another_encoding(web: FakeHost, latin1: dict[str, str]) -> None:
    """There bytes are other letters, and some of ours are none."""
    found = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"],
        env={**os.environ, "PYTHONUTF8": "0", **latin1},
        text=True,
    )
    assert found.strip() == "iso8859-1"

    for env in (latin1, latin1 | {"PYTHONUTF8": "0"}):
        assert content(snapshot("--root", web.root, env=env)) == content(snapshot("--root", web.root))


def test_without_an_environment_it_works(web: FakeHost) -> None:
    """No HOME, no PATH, no LANG, as from cron."""
    found = snapshot("--root", web.root, prefix=("/usr/bin/env", "-i"))

    assert content(found) == content(snapshot("--root", web.root))


def test_a_working_directory_without_rights_or_that_has_gone_is_none_of_its_business(web: FakeHost) -> None:
    """Nothing is written there, and nothing read."""
    code = 'd=$(mktemp -d) && cd "$d" && chmod 0 "$d" && rmdir "$d" && exec "$@"'

    found = snapshot("--root", web.root, prefix=("sh", "-c", code, "sh"))

    assert content(found) == content(snapshot("--root", web.root))


@pytest.mark.root
def test_on_a_read_only_machine_it_works(web: FakeHost) -> None:
    """It writes nothing anywhere, so a disk that cannot be written to is no hindrance."""
    code = 'mount -o remount,ro,bind / 2>/dev/null || mount -o bind,ro / / || exit 77; cd /; exec "$@"'

    done = run("snapshot", "--root", web.root, prefix=("unshare", "--mount", "sh", "-c", code, "sh"))

    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip(f"no read-only view of the machine: {done.stderr.decode().strip()}")
    assert content(json.loads(done.stdout)) == content(snapshot("--root", web.root))


def test_a_launcher_that_ignores_the_ends_of_children_is_no_hindrance(web: FakeHost) -> None:
    """An ignored SIGCHLD is inherited by what is started, and then children leave no word of their end."""
    ignoring = ("sh", "-c", 'trap "" CHLD; exec "$@"', "sh")

    done = run("snapshot", "--root", web.root, prefix=ignoring)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"]


def test_without_standard_input_it_works(web: FakeHost) -> None:
    """As a service has it."""
    found = snapshot("--root", web.root, prefix=("sh", "-c", 'exec "$@" <&-', "sh"))

    assert content(found) == content(snapshot("--root", web.root))


def test_a_reader_that_wants_no_more_ends_it_quietly(web: FakeHost) -> None:
    """`| head -c 10`: the whole pipeline ends, and nothing is said."""
    pipeline = 'set -o pipefail; "$@" | head -c 10'

    done = run("snapshot", "--no-redact", "--quiet", prefix=("bash", "-c", pipeline, "bash"))

    assert (done.returncode, done.stdout, said(done)) == (0, b'{\n  "snaps', [])


def test_a_reader_that_has_gone_before_the_first_byte_is_no_traceback(web: FakeHost) -> None:
    """However much there is to print."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("snapshot", "--root", web.root, stdout=writing)
    finally:
        os.close(writing)

    assert (done.returncode, said(done)) == (0, [])


# -- stopped midway ------------------------------------------------------------------------------------------

# What a user's Ctrl-C does, at a moment that the test chooses. Scanners run in a child of the command.
STOPPED_IN_A_SCANNER = """
import os, signal, sys, time
from agent import cli
from agent.scanners import libraries
scan = libraries.scan
def stopped(host):
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(100)
    return scan(host)
libraries.scan = stopped
sys.exit(cli.main(sys.argv[1:]))
"""
STOPPED_WHILE_WRITING = """
import os, signal, sys
from agent import cli
def stopped(fd):
    os.kill(os.getpid(), signal.SIGINT)
os.fsync = stopped
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("code", [STOPPED_IN_A_SCANNER, STOPPED_WHILE_WRITING], ids=["scanning", "writing"])
def test_ctrl_c_ends_it_with_one_word_and_nothing_half_done(web: FakeHost, tmp_path: Path, code: str) -> None:
    """The old document stays, nothing lies beside it, and the exit code is the one that shells know."""
    out = tmp_path / "out.json"
    out.write_text("the old one")

    done = run("snapshot", "--root", web.root, "-o", out, agent=(sys.executable, "-c", code))

    assert (done.returncode, done.stdout, said(done)) == (cli.EXIT_STOPPED, b"", ["fleet-agent: stopped"])
    assert os.listdir(tmp_path) == ["out.json"]
    assert out.read_text() == "the old one"


# -- frozen --------------------------------------------------------------------------------------------------


def test_the_frozen_file_says_the_same(
    web: FakeHost, frozen_agent: Path, latin1: dict[str, str], tmp_path: Path
) -> None:
    """In every locale, and it leaves nothing of itself behind."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    expected = content(snapshot("--root", web.root))

    for env in (*LOCALES, latin1):
        found = snapshot("--root", web.root, agent=(frozen_agent,), env=env | {"TMPDIR": str(temporary)})
        assert content(found) == expected
    assert os.listdir(temporary) == []


def test_the_frozen_file_tells_what_hinders_it(web: FakeHost, frozen_agent: Path, tmp_path: Path) -> None:
    """As the same program does."""
    frozen = (frozen_agent,)
    closed = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
    silent = ("sh", "-c", 'exec "$@" <&- 2>&-', "sh")
    words = ("snapshot", "--root", web.root)

    done = run(*words, agent=frozen, prefix=closed)
    assert done.returncode == errors.EXIT_FAILURE
    assert said(done) == ["fleet-agent: cannot write to standard output: bad file descriptor"]
    assert content(json.loads(run(*words, agent=frozen, prefix=silent).stdout)) == content(
        snapshot(*words[1:])
    )
    assert run("snapshot", "--nonsense", agent=frozen).returncode == errors.EXIT_USAGE
    assert run(*words, "-o", tmp_path / "out", agent=frozen).returncode == 0
    assert json.loads((tmp_path / "out").read_text())["hostname"] == "web1"


@pytest.mark.root
def test_nobody_may_run_the_frozen_file(web: FakeHost, frozen_agent: Path) -> None:
    """It unpacks itself where he may write."""
    may_be_nobody()

    done = run(
        "snapshot", "--scanner", "processes", agent=(frozen_agent,), prefix=(*ALONE, *BESIDE, *AS_NOBODY)
    )

    assert done.returncode == errors.EXIT_PRIVILEGE
    assert json.loads(done.stdout)["summary"] == NOTHING
