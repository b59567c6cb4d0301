# SPDX-License-Identifier: Apache-2.0
"""Does one bad file cost no more than itself, whatever it does to the process that reads it?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from agent import discover, errors, scanners
from agent.guard import reader, sandbox_wire
from agent.guard import sandbox as sandbox_module
from agent.guard.parsing import Function, InProcess, Opened, T
from agent.guard.sandbox import Sandbox, open_host
from agent.host import Host
from agent.model import canonical
from agent.readers import certificate_files
from agent.scanners import certificates
from tests.agent import openssl
from tests.agent import read_functions as readers
from tests.agent.cli.commands import AGENT, run
from tests.agent.read_functions import Said

CONTENT = b"content of a file"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One that is closed at the end, with the limits of a test."""
    with Sandbox(file_cpu_s=0.5, file_wait_s=20) as made:
        yield made


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An open file."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


def named(fd: int, *names: str) -> list[Opened]:
    """One file under several names, by which `readers` knows what to do."""
    return [Opened(fd, f"/etc/{name}") for name in names]


def why(answer: object) -> str:
    """The reason of a file that crashed its reader."""
    assert isinstance(answer, errors.CrashedError), answer
    assert answer.skip == "crashed"
    return str(answer).removeprefix(f"cannot read {answer.path}: ")


def children() -> set[int]:
    """Of this process, the dead ones that nobody has waited for among them."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


# -- honest readers ------------------------------------------------------------------------------------------


def test_the_answers_are_those_of_the_same_process(sandbox: Sandbox, fd: int) -> None:
    """Names of any bytes, an argument, types that are more than JSON's, in the order of the files."""
    files = named(fd, "a", "caf\udce9", "new\nline", "b")

    answers = sandbox.parse(readers.read, files, 7)

    assert answers == InProcess().parse(readers.read, files, 7)
    assert answers[1] == Said(b"/etc/caf\xe9", len(CONTENT), CONTENT[:7])


def test_every_error_of_the_host_crosses(sandbox: Sandbox, fd: int) -> None:
    """By class and words, and about the file that was asked for, whatever its reader claims."""
    leaves = sandbox_wire.known_errors()
    files = named(fd, *leaves)

    answers = sandbox.parse(readers.refuse, files)

    assert [type(answer) for answer in answers] == list(leaves.values())
    for answer, opened in zip(answers, files, strict=True):
        assert isinstance(answer, errors.HostError)
        assert answer.path == opened.path
        assert str(answer).startswith(f"cannot read {opened.path}: because, ")
        assert len(str(answer)) < 400
    # One that is of another module arrives as what it is a kind of.
    assert type(sandbox.parse(readers.refuse, named(fd, "x"))[0]) is errors.MalformedError
    assert len(leaves) >= 7


def test_ten_thousand_files_are_read_by_one_child(sandbox: Sandbox, tmp_path: Path) -> None:
    """No descriptor is left behind on either side, and every answer is its own file's."""
    sizes = range(64)
    for size in sizes:
        (tmp_path / str(size)).write_bytes(bytes(size))
    before = os.listdir("/proc/self/fd")
    pids: set[int] = set()
    for lot in range(157):
        with ExitStack() as stack:
            files = []
            for size in sizes:
                fd = os.open(tmp_path / str(size), os.O_RDONLY)
                stack.callback(os.close, fd)
                files.append(Opened(fd, f"/{lot}/{size}"))
            assert sandbox.parse(readers.read, files, 0) == [
                Said(b"/%d/%d" % (lot, n), n, b"") for n in sizes
            ]
            pids |= sandbox.pids
    # Its end of the socket.
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert len(pids) == 1
    fd = os.open(tmp_path / "1", os.O_RDONLY)
    assert sandbox.parse(readers.descriptors, [Opened(fd, "x")]) == [[0, 1, 2, 3, 4]]
    os.close(fd)


def test_more_files_than_one_message_takes_and_longer_paths(sandbox: Sandbox, fd: int) -> None:
    """A path may have 4,095 bytes, twice that below /proc/PID/root."""
    files = [Opened(fd, "/" + "x" * 8180 + str(number)) for number in range(200)]

    assert sandbox.parse(readers.read, files, 1) == InProcess().parse(readers.read, files, 1)


def test_no_files_are_no_question(sandbox: Sandbox) -> None:
    """And make no child."""
    assert sandbox.parse(readers.pid, []) == []
    assert sandbox.pids == frozenset()


def test_a_reader_that_is_imported_later_gets_a_child_that_has_it(
    sandbox: Sandbox, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child has what was in memory when it was made; what `prepare` imports is there too."""
    (first,) = sandbox.parse(readers.pid, named(fd, "a"))
    source = "import os\ndef pid(fd: int, path: str) -> int:\n    return os.getpid()\n"
    made = types.ModuleType("imported_later")
    exec(source, made.__dict__)
    prepared: list[bool] = []
    made.__dict__["prepare"] = lambda: prepared.append(True)
    monkeypatch.setitem(sys.modules, "imported_later", made)

    (second,) = sandbox.parse(made.pid, named(fd, "a"))
    (third,) = sandbox.parse(made.pid, named(fd, "a"))

    assert isinstance(second, int)
    assert second == third != first
    assert prepared == [True]


def test_nothing_can_be_imported_in_a_child(sandbox: Sandbox, fd: int) -> None:
    """Why `prepare` is there: the interpreter's own files are out of reach."""
    assert "wave" not in sys.modules

    assert sandbox.parse(readers.imports, named(fd, "a"), "wave") == [False]


@pytest.mark.parametrize("function", [lambda *_: 1, os.getpid, Said])
def test_what_cannot_cross_is_our_mistake(sandbox: Sandbox, fd: int, function: object) -> None:
    """A function without a name, or without a type: raised at once, on every machine."""
    with pytest.raises((TypeError, NameError)):
        sandbox.parse(function, named(fd, "a"))  # type: ignore[arg-type]


# -- files that end their readers ----------------------------------------------------------------------------

WAYS = {
    "segfault": "its reader was killed by SIGSEGV",
    "abort": "its reader was killed by SIG",
    "exit": "its reader ended with status 3",
    "sysexit": "its reader ended with status 1",
    "loop": "its reader was stopped after 0.5 s of CPU",
    "memory": "out of memory",
    "one piece of memory": "out of memory",
    "recursion": "bug in its reader: RecursionError at read_functions.py",
    "bug": "bug in its reader: LookupError at read_functions.py",
}
SURVIVED = {"memory", "one piece of memory", "recursion", "bug"}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_ends_its_reader_is_the_only_one_that_is_lost(
    sandbox: Sandbox, fd: int, way: str
) -> None:
    """In the middle of others, which another child reads where this one is gone."""
    answers = sandbox.parse(readers.spoil, named(fd, *"abc", way, *"defg"))

    assert answers[:3] + answers[4:] == [len(CONTENT)] * 7
    assert why(answers[3]).startswith(WAYS[way])
    assert readers.SECRET not in str(answers[3])


@pytest.mark.parametrize("way", sorted(SURVIVED))
def test_what_only_fails_needs_no_other_child(sandbox: Sandbox, fd: int, way: str) -> None:
    """A child that ran out of memory has it back."""
    pids = [sandbox.parse(readers.spoil, named(fd, way)) and sandbox.pids for _ in range(3)]

    assert len(set(pids)) == 1


def test_a_reader_that_waits_is_stopped(fd: int) -> None:
    """It takes no CPU: only the clock tells."""
    with Sandbox(file_wait_s=0.5) as sandbox:
        answers = sandbox.parse(readers.spoil, named(fd, "a", "wait", "b"))

    assert why(answers[1]) == "its reader was stopped after 0.5 s"
    assert answers[::2] == [len(CONTENT)] * 2


def test_many_bad_files_end_in_an_answer(fd: int) -> None:
    """Each death costs time; whoever fills a directory with such files gets so much of it and no more."""
    with Sandbox(deaths_max=3) as sandbox:
        answers = sandbox.parse(readers.spoil, named(fd, "a", *["exit"] * 100, "b"))

        assert answers[0] == len(CONTENT)
        assert [why(answer) for answer in answers[1:4]] == ["its reader ended with status 3"] * 3
        said = {why(answer) for answer in answers[4:]}
        assert said == {"files before it ended 3 readers, and there are no more"}
        assert len(answers) == 102
        assert sandbox.parse(readers.spoil, named(fd, "b"))[0] != len(CONTENT)


def test_honest_files_earn_another_child(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that watches for weeks is not blinded by three bad files on the first day."""
    monkeypatch.setattr(sandbox_module, "ANSWERS_PER_DEATH", 5)
    with Sandbox(deaths_max=2) as sandbox:
        for _ in range(4):
            answers = sandbox.parse(readers.spoil, named(fd, *"abcde", "exit", *"fghij"))

            assert sum(answer == len(CONTENT) for answer in answers) == 10


def test_a_child_that_dies_between_two_questions_costs_no_file(sandbox: Sandbox, fd: int) -> None:
    """As when the host runs out of memory: whoever reads nothing has nothing to answer for."""
    (child,) = sandbox.parse(readers.pid, named(fd, "a"))
    assert isinstance(child, int)
    os.kill(child, signal.SIGKILL)
    while Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        time.sleep(0.001)

    answers = sandbox.parse(readers.spoil, named(fd, "a", "b"))

    assert answers == [len(CONTENT)] * 2


def test_a_child_goes_on_when_the_terminal_says_stop(sandbox: Sandbox, fd: int) -> None:
    """The whole group hears it; what becomes of the files is the parent's decision."""
    (child,) = sandbox.parse(readers.pid, named(fd, "a"))
    assert isinstance(child, int)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)

    assert sandbox.parse(readers.pid, named(fd, "a")) == [child]


def test_no_handler_of_ours_runs_in_a_child(fd: int) -> None:
    """A handler would do the parent's work a second time."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with Sandbox() as sandbox:
            (child,) = sandbox.parse(readers.pid, named(fd, "a"))
            assert isinstance(child, int)
            os.kill(child, signal.SIGUSR1)
            answers = sandbox.parse(readers.pid, named(fd, "a"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    # By default this signal ends a process; another child has answered.
    assert answers != [child]
    assert isinstance(answers[0], int) or why(answers[0]).endswith("SIGUSR1")
    assert heard == []


def test_an_interrupted_question_leaves_no_answer_for_the_next(fd: int) -> None:
    """Ctrl-C, or a signal's handler that raises, while a file is read."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Sandbox() as sandbox:
            (child,) = sandbox.parse(readers.pid, named(fd, "a"))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                sandbox.parse(readers.spoil, named(fd, "a", "loop", "b"))
            answers = sandbox.parse(readers.pid, named(fd, "a"))
            assert answers != [child]
            assert sandbox.pids == set(answers)
    finally:
        signal.signal(signal.SIGALRM, before)


# -- readers that lie ----------------------------------------------------------------------------------------

LIES = {
    "endless": "answered with more than",
    "empty": "answered what cannot be right",
    "no kind": "answered what cannot be right",
    "garbage": "answered what cannot be right",
    "another type": "answered what cannot be right",
    "deep": "answered what cannot be right",
    "two values": "answered what cannot be right",
    "no such error": "answered what cannot be right",
    "long reason": "answered what cannot be right",
    "dribble": "was stopped after 1 s",
}


@pytest.mark.parametrize("way", LIES)
def test_a_child_that_was_taken_over_is_not_believed(fd: int, way: str) -> None:
    """It can say what the type allows about its own files; for anything else it is ended."""
    with Sandbox(file_wait_s=1) as sandbox:
        (before,) = sandbox.parse(readers.pid, named(fd, "a"))
        answers = sandbox.parse(readers.speak, named(fd, "a", way, "b"))
        (after,) = sandbox.parse(readers.pid, named(fd, "a"))

    assert why(answers[1]).startswith(f"its reader {LIES[way]}")
    assert answers[::2] == [7, 7]
    assert before != after


def test_a_child_that_answers_before_it_is_asked_is_ended(sandbox: Sandbox, fd: int) -> None:
    """Or each of its answers would be taken for the next file's."""
    (before,) = sandbox.parse(readers.pid, named(fd, "a"))
    sandbox.parse(readers.speak, named(fd, "some more"))

    (after,) = sandbox.parse(readers.pid, named(fd, "a"))

    assert isinstance(after, int)
    assert after not in (before, 1, 7)


def test_another_type_than_promised_is_no_answer(sandbox: Sandbox, fd: int) -> None:
    """A mistake of ours, or a lie: the type is what everybody behind relies on."""
    assert why(sandbox.parse(readers.lie, named(fd, "a"))[0]) == "its reader answered what cannot be right"
    assert why(sandbox.parse(readers.surrogate, named(fd, "a"))[0]).startswith("bug in its reader: Unicode")


def test_an_answer_has_a_size(sandbox: Sandbox, fd: int) -> None:
    """Said as it is, and the child goes on."""
    answers = sandbox.parse(readers.giant, named(fd, "a", "giant", "b"))

    assert answers[::2] == [bytes(10)] * 2
    assert isinstance(answers[1], errors.TooLargeError)
    (child,) = sandbox.pids
    assert sandbox.parse(readers.pid, named(fd, "a")) == [child]


def test_answers_together_have_a_size(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four answers are held at once, by the process that holds the privilege."""
    monkeypatch.setattr(reader, "_ANSWERS_BYTES_MAX", 100)
    with Sandbox() as sandbox:
        answers = sandbox.parse(readers.giant, named(fd, *"abcdefghi"))

    assert "in all" in why(answers[7])
    assert answers[:7] + answers[8:] == [bytes(10)] * 8


# -- life and death ------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_closed_sandbox(fd: int) -> None:
    """No process, no zombie, no descriptor; also where children died, and where it is closed twice."""
    before = children(), sorted(os.listdir("/proc/self/fd"))
    sandbox = Sandbox()
    sandbox.parse(readers.spoil, named(fd, "a", "exit", "segfault", "b"))

    sandbox.close()
    sandbox.close()

    assert (children(), sorted(os.listdir("/proc/self/fd"))) == before
    # And it can be asked again.
    assert sandbox.parse(readers.spoil, named(fd, "a")) == [len(CONTENT)]
    sandbox.close()


def test_a_dead_child_is_waited_for_at_once(sandbox: Sandbox, fd: int) -> None:
    """A zombie is a process that others must explain."""
    before = children()

    sandbox.parse(readers.spoil, named(fd, "a", "exit", "b", "abort", "c"))

    assert len(children() - before) == 1


def test_where_nobody_waits_for_children_it_works_as_well(fd: int) -> None:
    """With SIGCHLD ignored the kernel does, and waitpid(2) knows of none."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Sandbox() as sandbox:
            answers = sandbox.parse(readers.spoil, named(fd, "a", "exit", "b"))
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert why(answers[1]).startswith("its reader ended")
    assert answers[::2] == [len(CONTENT)] * 2


def test_a_process_that_was_forked_has_a_child_of_its_own(sandbox: Sandbox, fd: int) -> None:
    """Two that talk to one child would take each other's answers."""
    (ours,) = sandbox.parse(readers.pid, named(fd, "a"))
    out, into = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            (theirs,) = sandbox.parse(readers.pid, named(fd, "a"))
            # Whoever looks at processes there leaves out both.
            assert sandbox.pids == {ours, theirs}
            os.write(into, str(theirs).encode())
            sandbox.close()
        finally:
            os._exit(0)
    os.waitpid(worker, 0)
    theirs = int(os.read(out, 100))
    os.close(out)
    os.close(into)

    assert theirs != ours
    assert sandbox.parse(readers.pid, named(fd, "a")) == [ours]


PARENT = """
import os, sys, time
from agent.guard.parsing import Opened
from agent.guard.sandbox import Sandbox
from tests.agent import read_functions as readers

sandbox = Sandbox()
fd = os.open("/etc/passwd", os.O_RDONLY)
(child,) = sandbox.parse(readers.pid, [Opened(fd, "x")])
print(child, flush=True)
if sys.argv[1] == "busy":
    sandbox.parse(readers.spoil, [Opened(fd, "/loop")])
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_child_ends_with_its_parent_however_that_ends(state: str, house: Path) -> None:
    """Also one that reads a file for ever, when its parent is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), state], cwd=house, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
        parent.wait()

        until = time.monotonic() + 20
        while is_running(child) and time.monotonic() < until:
            time.sleep(0.005)

    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie, for whom the machine's first process is slow to wait."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_where_no_process_can_be_made_every_file_says_so(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never read by the privileged side instead."""

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with Sandbox() as sandbox:
        answers = sandbox.parse(readers.spoil, named(fd, "a", "b"))

        assert [str(answer) for answer in answers] == [
            f"cannot read /etc/{name}: no reader could be made: resource temporarily unavailable"
            for name in ("a", "b")
        ]
        assert sandbox.layers == ()


def test_files_that_no_process_could_read_have_crashed_none(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted as unreadable, and as soon as there are processes again, files are read again."""
    # Given a host that has no process left, for longer than readers may die
    fork, is_full = os.fork, True

    def full() -> int:
        if is_full:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    with Sandbox(deaths_max=2) as sandbox:
        for _ in range(5):
            (answer,) = sandbox.parse(readers.spoil, named(fd, "a"))
            # Then nobody says that a file has ended its reader
            assert isinstance(answer, errors.UnreadableError), answer
        # And when there are processes again, it is read
        is_full = False
        assert sandbox.parse(readers.spoil, named(fd, "a")) == [len(CONTENT)]


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_it_works_without_standard_streams(closed: str, house: Path, tmp_path: Path) -> None:
    """A service may be started with nothing open: the socket is then one of the first numbers."""
    script = (
        "import os\nfrom agent.guard.parsing import Opened\nfrom agent.guard.sandbox import Sandbox\n"
        "from tests.agent import read_functions as readers\nfd = os.open('/etc/passwd', os.O_RDONLY)\n"
        f"with Sandbox() as s: open({str(tmp_path / 'out')!r}, 'w').write("
        "str(s.parse(readers.descriptors, [Opened(fd, 'x')])[0]))"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script], cwd=house, check=False
    )

    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "[0, 1, 2, 3, 4]"


# -- as the scanners use it ----------------------------------------------------------------------------------


def entries(host: Host) -> list[bytes]:
    """The section of certificates, as it is hashed."""
    found = certificates.scan(host)
    return [*map(canonical.encode, found.entries), canonical.encode(found.skipped)]


def test_this_machines_certificates_are_the_same_in_a_sandbox() -> None:
    """Every byte of every entry: what reads them is no part of what is there."""
    with open_host() as host:
        sandboxed = entries(host)

    assert sandboxed == entries(Host())


class Both(InProcess):
    """Reads every file twice, here and in a sandbox, and keeps what differs."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.functions: set[str] = set()
        self.different: list[tuple[object, object]] = []

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        here = super().parse(function, files, *args)
        for opened in files:
            # A function that leaves the position elsewhere must not be noticed by the other one.
            os.lseek(opened.fd, 0, os.SEEK_SET)
        there = self.sandbox.parse(function, files, *args)
        self.functions.add(function.__name__)
        for one, other in zip(here, there, strict=True):
            if (type(one), str(one)) != (type(other), str(other)):
                self.different.append((one, other))
        return there


@pytest.mark.parametrize("name", discover.names(scanners))
def test_what_a_scanner_has_read_reads_the_same_in_a_sandbox(name: str) -> None:
    """All functions that any scanner hands over, on this machine's files.

    Where they run, fstat(2), an import at first use and much else are refused; what a function makes of that
    may look like an honest answer.
    """
    with Sandbox() as sandbox:
        both = Both(sandbox)
        discover.plugin(scanners, name).scan(Host(parser=both))

    assert both.different == []


KINDS: dict[str, Sequence[str]] = {
    "rsa:1024": (),
    "ec": (
        "-addext",
        "subjectAltName=DNS:a.example,IP:192.0.2.1,IP:2001:db8::1,URI:https://x,email:a@b,RID:1.2.3",
    ),
    "ed25519": (
        "-addext", "extendedKeyUsage=serverAuth,1.2.3.4", "-addext", "keyUsage=keyAgreement,encipherOnly",
    ),
    "ed448": ("-addext", "subjectAltName=otherName:1.2.3.4;UTF8:x", "-addext", "nsComment=old"),
    "bmp": ("-utf8", "-config", "CONFIG"),
}  # fmt: skip


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A host with keys, extensions and string types for which something may be imported at first use."""
    config = tmp_path / "config"
    config.write_text("[req]\ndistinguished_name=dn\nstring_mask=MASK:0x800\n[dn]\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("22 1 254:0 / / rw - ext4 /dev/vda1 rw\n")
    for kind, extra in KINDS.items():
        words = [str(config) if word == "CONFIG" else word for word in extra]
        newkey = "ec" if kind == "bmp" else kind
        made = openssl.make(tmp_path, f"/CN=grün {kind}", *words, newkey=newkey)
        (root / f"etc/{kind}.pem").write_bytes(made.certificate)
        (root / f"etc/{kind}.crt").write_bytes(made.der)
    return root


def test_certificates_of_every_kind_are_read_in_a_sandbox(kinds: Path, house: Path) -> None:
    """In a new process, where nothing was used before."""
    script = (
        "import sys, msgspec\nfrom agent.host import Host\nfrom agent.model import canonical\n"
        "from agent.guard.sandbox import open_host\nfrom agent.scanners import certificates\n"
        "with open_host(sys.argv[1]) as host: found = certificates.scan(host)\n"
        "print(msgspec.json.encode([canonical.encode(entry).decode() for entry in found.entries]).decode())\n"
        "assert found.skipped == {}, found"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(kinds)], capture_output=True, check=True, cwd=house
    )

    found = msgspec.json.decode(done.stdout, type=list[str])
    assert len(found) == 2 * len(KINDS)
    assert found == [entry.decode() for entry in entries(Host(str(kinds)))[:-1]]
    assert sum("grün bmp" in entry for entry in found) == 2


def test_certificates_of_every_kind_are_read_by_the_one_file(kinds: Path, frozen_agent: Path) -> None:
    """Its modules are in a file and a directory that a child cannot open any more."""
    words = ("snapshot", "--root", kinds, "--scanner", "certificates")
    documents = [
        json.loads(run(*words, agent=agent).stdout)["inventory"] for agent in ((frozen_agent,), AGENT)
    ]

    frozen, ours = (document["manifest"]["sections"]["certificates"] for document in documents)

    assert frozen == ours
    assert frozen["status"] == "complete"
    assert "skipped" not in frozen
    assert documents[0]["parts"] == documents[1]["parts"]


def test_a_key_beside_its_certificate_stays_in_the_child(tmp_path: Path) -> None:
    """The answer that crosses is what would be kept, not what was read."""
    made = openssl.make(tmp_path, "/CN=x")
    both = tmp_path / "both.pem"
    both.write_bytes(made.key + made.certificate)
    fd = os.open(both, os.O_RDONLY)
    call = sandbox_wire.Call(certificate_files.read_certificates, (10_000, 10))

    with Sandbox() as sandbox:
        child = sandbox._ready(call.module)
        child.ask(call.question([b"x"])[0], [fd])
        said = bytes(child._message(10, 10))
    os.close(fd)

    assert b"CN=x" in said
    for line in made.key.splitlines()[1:-1]:
        assert line not in said
