# SPDX-License-Identifier: Apache-2.0
"""What a snapshot says of a host, to the scripts that users have and to those that read the inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent import errors
from agent.model import canonical, schema
from tests.agent import openssl
from tests.agent.cli.commands import jq, run, said, snapshot
from tests.agent.fake_host import LIBCRYPTO, LIBSSL, FakeHost

# As users have it, apart from the program's name and `--root`.
PROMETHEUS = """
    "# HELP crypto_processes Total processes using crypto",
    "# TYPE crypto_processes gauge",
    ("crypto_processes " + (.summary.total_processes | tostring)),
    "",
    "# HELP crypto_libraries Total crypto libraries loaded",
    "# TYPE crypto_libraries gauge",
    ("crypto_libraries " + (.summary.total_libraries | tostring)),
    "",
    "# HELP crypto_files Total crypto files open",
    "# TYPE crypto_files gauge",
    ("crypto_files " + (.summary.total_files | tostring))
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One, in PEM."""
    return openssl.make(tmp_path_factory.mktemp("openssl"), "/CN=web").certificate


@pytest.fixture
def web(tmp_path: Path, certificate: bytes) -> FakeHost:
    """A host with a web server, a program of alice's, one that uses no cryptography, and two certificates."""
    web = FakeHost(tmp_path / "web")
    web.file("/etc/ssl/site.pem", certificate)
    web.file("/home/alice/client.pem", certificate, 0o600)
    web.file("/usr/lib/libc.so.6", b"\x7fELF")
    web.file("/home/alice/old.key", b"not yet")
    web.process(10, fds=["/etc/ssl/site.pem", "/home/alice/old.key", "socket:[9]", "/var/log/x"])
    web.process(11, fds=["/etc/ssl/site.pem"])
    web.process(12, b"app", exe="/home/alice/bin/app", libraries=[LIBCRYPTO], uid=1000)
    web.process(13, b"sleep", exe="/usr/bin/sleep", libraries=["/usr/lib/libc.so.6"])
    return web


def part_digests(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Digests of what was found, by section."""
    sections = document["inventory"]["manifest"]["sections"]
    return {name: state["parts"] for name, state in sections.items()}


def test_the_document_has_the_keys_and_values_that_scripts_rely_on(web: FakeHost) -> None:
    """Names, types and order of nesting are a contract with programs that we cannot see."""
    document = snapshot("--root", web.root)

    assert list(document)[:6] == [
        "snapshot_version", "generated_at", "hostname", "kernel", "processes", "summary",
    ]  # fmt: skip
    assert document["snapshot_version"] == "1.0"
    assert (document["hostname"], document["kernel"]) == ("web1", "6.1.0-28-amd64")
    known = ("pid", "name", "exe", "running_as", "libraries", "open_crypto_files")
    assert all(tuple(process)[:6] == known for process in document["processes"])
    assert [{key: process[key] for key in known} for process in document["processes"]] == [
        {
            "pid": 10,
            "name": "nginx",
            "exe": "/usr/sbin/nginx",
            "running_as": "www-data",
            "libraries": [LIBCRYPTO, LIBSSL],
            "open_crypto_files": ["/etc/ssl/site.pem", "/home/USER/old.key"],
        },
        {
            "pid": 11,
            "name": "nginx",
            "exe": "/usr/sbin/nginx",
            "running_as": "www-data",
            "libraries": [LIBCRYPTO, LIBSSL],
            "open_crypto_files": ["/etc/ssl/site.pem"],
        },
        {
            "pid": 12,
            "name": "app",
            "exe": "/home/USER/bin/app",
            "running_as": "USER",
            "libraries": [LIBCRYPTO],
            "open_crypto_files": [],
        },
    ]
    assert document["summary"] == {"total_processes": 3, "total_libraries": 5, "total_files": 3}


def test_what_we_know_beyond_comes_after_the_known_keys(web: FakeHost) -> None:
    """The number behind the name, the service, and what the open files are."""
    process = snapshot("--root", web.root)["processes"][0]

    assert dict(list(process.items())[6:]) == {
        "uid": 33,
        "unit": "nginx.service",
        "file_details": [
            {"file": "/etc/ssl/site.pem", "file_type": "certificate", "file_kind": "certificate"},
            {"file": "/home/USER/old.key", "file_type": "unknown"},
        ],
    }


def test_the_prometheus_recipe_of_users_works(web: FakeHost) -> None:
    """By the jq that they have."""
    done = run("snapshot", "--root", web.root, "--format", "json-pretty")

    assert jq(PROMETHEUS, done.stdout, "-r").splitlines() == [
        "# HELP crypto_processes Total processes using crypto",
        "# TYPE crypto_processes gauge",
        "crypto_processes 3",
        "",
        "# HELP crypto_libraries Total crypto libraries loaded",
        "# TYPE crypto_libraries gauge",
        "crypto_libraries 5",
        "",
        "# HELP crypto_files Total crypto files open",
        "# TYPE crypto_files gauge",
        "crypto_files 3",
    ]


@pytest.mark.parametrize(
    ("recipe", "answer"),
    [
        (".", None),
        ("[.processes[].name] | unique | length", "2"),
        ('[.processes[] | select(.name == "nginx")] | length', "2"),
        ('[.processes[] | select(.libraries[] | test("libssl")) | .pid]', "[10,11]"),
        ("[.processes[].open_crypto_files[]] | unique | length", "2"),
        (".processes | group_by(.name) | map({process: .[0].name, count: length})",
         '[{"process":"app","count":1},{"process":"nginx","count":2}]'),
        ("(.processes | length) == .summary.total_processes", "true"),
        ("([.processes[].libraries[]] | length) == .summary.total_libraries", "true"),
        ("([.processes[].open_crypto_files[]] | length) == .summary.total_files", "true"),
        ('[.inventory.parts[][] | select(.asset.kind == "certificate") | .where.path] | sort',
         '["/etc/ssl/site.pem","/home/USER/client.pem"]'),
        ("[.inventory.manifest.sections[].status] | unique", '["complete"]'),
    ],
)  # fmt: skip
def test_recipes_in_the_manner_of_users_work(web: FakeHost, recipe: str, answer: str | None) -> None:
    """Lists are lists of texts, counts are numbers, and every total is what jq counts."""
    done = run("snapshot", "--root", web.root)

    found = jq(recipe, done.stdout, "-c")

    assert json.loads(found) == json.loads(answer or done.stdout.decode())


@pytest.mark.slow
def test_the_playbook_of_users_that_asserts_on_a_snapshot_works(web: FakeHost, tmp_path: Path) -> None:
    """By the real ansible-playbook: slurp, b64decode, from_json, selectattr, map, flatten."""
    # Given the playbook as users have it, apart from the program and where the host is
    out = tmp_path / "snapshot.json"
    command = [sys.executable, "-m", "agent", "snapshot", "--root", str(web.root)]
    search = "select('search', 'libssl')"
    nginx = "snapshot.processes | selectattr('name', 'equalto', 'nginx')"
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            {"name": "Take crypto snapshot", "command": {"argv": [*command, "--output", str(out)]}},
            {"name": "Read snapshot", "slurp": {"src": str(out)}, "register": "snapshot_data"},
            {
                "name": "Parse snapshot",
                "set_fact": {"snapshot": "{{ snapshot_data.content | b64decode | from_json }}"},
            },
            {
                "name": "Validate nginx uses libssl",
                "assert": {
                    "that": [
                        f"{nginx} | list | length > 0",
                        f"{nginx} | map(attribute='libraries') | flatten | {search} | list | length > 0",
                    ]
                },
            },
        ],
    }
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(json.dumps([play]))

    # When it is run
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", playbook],
        check=False, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_LOCALHOST_WARNING": "0"},
    )  # fmt: skip

    # Then all of it holds
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok=4" in done.stdout


def test_the_inventory_in_it_is_one_by_the_published_schema(web: FakeHost) -> None:
    """Checked by a validator that we did not write."""
    document = snapshot("--root", web.root)

    validator = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))
    assert list(validator.iter_errors(document["inventory"])) == []
    assert list(validator.iter_errors({"manifest": {}})) != []


def test_a_snapshot_of_this_machine_is_one_by_the_published_schema() -> None:
    """Whatever is on it, and whoever asks."""
    done = run("snapshot")

    assert done.returncode in (errors.EXIT_COMPLETE, errors.EXIT_PRIVILEGE), done.stderr
    validator = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))
    assert list(validator.iter_errors(json.loads(done.stdout)["inventory"])) == []


def test_two_snapshots_of_an_unchanged_host_have_the_same_digests(web: FakeHost) -> None:
    """Only the moments differ."""
    first, second = snapshot("--root", web.root), snapshot("--root", web.root)

    assert part_digests(first) == part_digests(second)
    for document in (first, second):
        del document["generated_at"], document["inventory"]["manifest"]["collected_at"]
    assert first == second


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_no_order_of_pythons_own_shows(web: FakeHost, seed: str) -> None:
    """Sets and dictionaries of names are ordered by a number that is another one in each process."""
    for number in range(8):
        web.link(f"/etc/ssl/alias{number}.pem", "site.pem")
        web.process(20 + number, exe=f"/opt/{number}", libraries=[LIBSSL, LIBCRYPTO])
    env = {"PYTHONHASHSEED": seed}

    assert part_digests(snapshot("--root", web.root, env=env)) == part_digests(snapshot("--root", web.root))


def test_people_are_hidden_unless_the_truth_is_asked_for(web: FakeHost) -> None:
    """In lists, in entries, in keys; the certificates are the same ones."""
    hidden = run("snapshot", "--root", web.root)
    true = run("snapshot", "--root", web.root, "--no-redact")

    assert b"alice" not in hidden.stdout + hidden.stderr
    for shown in (b"/home/alice/client.pem", b"/home/alice/bin/app", b'"running_as": "alice"'):
        assert shown in true.stdout


# -- filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "pids"),
    [
        (("--pid", "11"), [11]),
        (("--name", "ngin"), [10, 11]),
        (("--name", "NGINX"), []),
        (("--library", "libssl"), [10, 11]),
        (("--library", "libcrypto"), [10, 11, 12]),
        (("--file", "/home/alice/*"), [10]),
        (("--file", "/home/USER/*"), []),
        (("--file", "*.pem", "--library", "libssl", "--name", "nginx", "--pid", "10"), [10]),
        (("--file", "*.pem", "--name", "app"), []),
    ],
)
def test_filters_choose_processes_and_leave_the_inventory_whole(
    web: FakeHost, words: tuple[str, ...], pids: list[int]
) -> None:
    """The totals are of what is listed; what the host holds does not depend on who asks for what."""
    document = snapshot("--root", web.root, *words)

    assert [process["pid"] for process in document["processes"]] == pids
    assert document["summary"]["total_processes"] == len(pids)
    assert part_digests(document) == part_digests(snapshot("--root", web.root))


# -- formats -------------------------------------------------------------------------------------------------


def test_a_stream_has_it_on_one_line(web: FakeHost) -> None:
    """For pipes that read lines."""
    done = run("snapshot", "--root", web.root, "--format", "json-stream")

    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout)["summary"]["total_processes"] == 3


def test_an_array_has_it_as_its_only_element(web: FakeHost) -> None:
    """As the old tool printed it."""
    (document,) = json.loads(run("snapshot", "--root", web.root, "--format", "json-array").stdout)

    assert document["summary"]["total_processes"] == 3


def test_the_inventory_alone_is_the_document_that_is_posted(web: FakeHost) -> None:
    """Byte for byte canonical: what another host's agent would print of this one."""
    printed = run("snapshot", "--root", web.root, "--format", "inventory").stdout

    document = json.loads(printed)
    assert canonical.encode(document) + b"\n" == printed
    validator = jsonschema.Draft202012Validator(json.loads(schema.PATH.read_text()))
    assert list(validator.iter_errors(document)) == []


def test_a_summary_is_for_people(web: FakeHost) -> None:
    """Totals, and each section with how far it was seen."""
    lines = run("snapshot", "--root", web.root, "--format", "summary").stdout.decode().splitlines()

    assert lines[0].startswith("web1, kernel 6.1.0-28-amd64, 20")
    assert lines[1:4] == ["total processes: 3", "total libraries: 5", "total files: 3"]
    assert lines[4:] == [
        "section certificates: complete, 2 entries",
        "section host: complete, 4 entries",
        "section libraries: complete, 2 entries",
        "section processes: complete, 3 entries",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--format", "nonsense"), "choose from 'inventory', 'json-array', 'json-pretty', 'json-stream', 's"),
        (("--format", "json_pretty"), "choose from 'inventory', 'json-array', 'json-pretty', "),
        (("--scanner", "certs"), "there is no scanner 'certs'; there are: certificates, "),
        (("--root", "/etc/passwd"), "/etc/passwd is no directory"),
        (("--root", ""), "is no directory"),
    ],
)
def test_what_means_nothing_is_a_usage_error_that_says_what_does(
    words: tuple[str, ...], complaint: str
) -> None:
    """And nothing is printed in the document's place."""
    done = run("snapshot", *words)

    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, b"")
    assert complaint in said(done)[-1]


def test_without_the_processes_there_are_no_totals(web: FakeHost) -> None:
    """A total of 0 would be a statement about what nobody looked at."""
    words = ("--root", web.root, "--scanner", "certificates")

    document = snapshot(*words)

    assert document.keys().isdisjoint({"processes", "summary"})
    assert list(part_digests(document)) == ["certificates"]
    assert b"total" not in run("snapshot", *words, "--format", "summary").stdout


# -- what could not be seen ----------------------------------------------------------------------------------


def test_a_copy_of_a_disk_says_that_nothing_runs_on_it(web: FakeHost, tmp_path: Path) -> None:
    """No process is an answer there; it says so and is no failure."""
    disk = tmp_path / "disk"
    (disk / "etc").mkdir(parents=True)
    (disk / "etc/os-release").write_text("ID=debian\n")

    document = snapshot("--root", disk)

    assert document["summary"] == {"total_processes": 0, "total_libraries": 0, "total_files": 0}
    state = document["inventory"]["manifest"]["sections"]["processes"]
    assert (state["status"], state["reason"]) == ("absent", "there is no /proc")


def test_an_empty_proc_is_no_host_without_processes(tmp_path: Path) -> None:
    """Every disk has that directory; that nothing is mounted there says nothing of what runs."""
    (tmp_path / "proc").mkdir()

    state = snapshot("--root", tmp_path)["inventory"]["manifest"]["sections"]["processes"]

    assert (state["status"], state["reason"]) == ("absent", "/proc is not mounted")


def test_what_is_hidden_is_said_and_strict_makes_it_a_code(web: FakeHost) -> None:
    """Whoever sees less must know it; a script may insist."""
    web.file("/etc/ssl/large.pem", b"-----BEGIN CERTIFICATE-----\n" + b"A" * 5_000_000)
    words = ("snapshot", "--root", web.root)

    for more, code in ((), 0), (("--strict",), errors.EXIT_PARTIAL):
        done = run(*words, *more)
        assert done.returncode == code
        assert said(done) == ["fleet-agent: certificates is partial: 1 larger than the limit"]
        assert json.loads(done.stdout)["summary"]["total_processes"] == 3
    assert said(run(*words, "--quiet")) == []


def test_verbose_says_how_each_section_was_seen(web: FakeHost) -> None:
    """And by which method."""
    told = said(run("snapshot", "--root", web.root, "--verbose"))

    assert [line.split(" by ")[0] for line in told] == [
        "fleet-agent: certificates: complete", "fleet-agent: host: complete",
        "fleet-agent: libraries: complete", "fleet-agent: processes: complete",
    ]  # fmt: skip
    assert " by maps-text" in told[-1]


def test_a_scanner_with_a_bug_is_a_failed_section_and_zero_totals_are_an_error(web: FakeHost) -> None:
    """An exporter must not write 0 because the agent fell over."""
    # Given a host that only a bug can fail on: the scanner of processes gets what it cannot expect
    code = (
        "import sys\nfrom agent import cli\nfrom agent.scanners import processes\n"
        "def scan(host): raise RuntimeError('-----BEGIN PRIVATE KEY-----')\n"
        "processes.scan = scan\nsys.exit(cli.main(sys.argv[1:]))"
    )
    # When it is looked at
    done = run("snapshot", "--root", web.root, agent=(sys.executable, "-c", code))
    # Then the rest is there, the failure is told without the bug's words, and the exit code says it
    assert done.returncode == errors.EXIT_FAILURE
    assert said(done)[-1].startswith(
        "fleet-agent: totals of 0 mean nothing: the processes are failed: bug in"
    )
    assert b"PRIVATE" not in done.stdout + done.stderr
    assert (
        json.loads(done.stdout)["inventory"]["manifest"]["sections"]["certificates"]["status"] == "complete"
    )
