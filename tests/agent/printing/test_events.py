# SPDX-License-Identifier: Apache-2.0
"""An event as it is printed: the keys that users know, with their types, then ours; and nobody named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import FileIdentity, LibLoad
from agent.kernel.probes.process_exec import Argv, ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.printing import events
from agent.printing.loaded import LoadedLibrary
from agent.procfs.cgroup import Placement
from agent.readers.file_kind import FileKind
from agent.redact import People, Printed, Redaction, Truth
from tests.agent.fake_host import FakeHost

WHO: dict[str, Any] = {
    "timestamp": "2024-12-08T10:30:45.123456Z",
    "pid": 1234,
    "tid": 1235,
    "uid": 1000,
    "gid": 100,
    "process": "nginx",
    "exe": "/usr/sbin/nginx",
    "cgroup_id": 9,
    "mount_ns": 8,
    "start_ns": 7,
}
ALICE = People({"/home/alice": "alice", "/srv/people/bob": "bob"}, ["alice", "bob"])
CERTIFICATE = FileKind(file_type="certificate", kind="x509")


def opened(**fields: Any) -> FileOpen:  # noqa: ANN401 - fields of the event
    """A certificate is opened."""
    given = {"file": "/etc/ssl/certs/server.crt", "flags": "O_RDONLY", "result": 3}
    return FileOpen(**WHO | given | fields)


def loaded(**fields: Any) -> LibLoad:  # noqa: ANN401 - fields of the event
    """OpenSSL is loaded."""
    identity = FileIdentity(inode=1, changed_ns=2, device=3, generation=4)
    given = {"library": "/usr/lib/libssl.so.3", "library_name": "libssl", "identity": identity}
    return LibLoad(**WHO | given | {"address": 4096, "length": 8192} | fields)


def started(*argv: bytes, **fields: Any) -> ProcessExec:  # noqa: ANN401 - fields of the event
    """A program is started."""
    return ProcessExec(**WHO | {"ppid": 1000, "argv": Argv(argv)} | fields)


def ended(**fields: Any) -> ProcessExit:  # noqa: ANN401 - fields of the event
    """A process ends."""
    return ProcessExit(**WHO | {"ppid": 1000, "exit_code": 0} | fields)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A host with alice."""
    return FakeHost(tmp_path / "web")


OPENSSL = LoadedLibrary(
    family="openssl", name="libssl", soname="libssl.so.3", version="3.0.19", build_id="00", by="content"
)


class Printer(events.Printer):
    """One that shows everything."""

    def document(self, event: Event) -> dict[str, Any]:
        document = super().document(event)
        assert document is not None
        return document


def printer(
    host: FakeHost,
    redaction: Redaction,
    *,
    placement: Placement = Placement(unit="nginx.service"),  # noqa: B008 - it is frozen
    kind: FileKind = CERTIFICATE,
    library: LoadedLibrary | None = OPENSSL,
) -> Printer:
    """One for that reader."""
    return Printer(
        host.host, redaction,
        placement=lambda _: placement, file_kind=lambda _: kind, library=lambda _: library,
    )  # fmt: skip


def test_an_open_has_the_documented_keys_first(host: FakeHost) -> None:
    """Names, order and types; what we know beyond comes after them."""
    document = printer(host, Printed(ALICE)).document(opened())

    assert list(document.items()) == [
        ("event_type", "file_open"), ("timestamp", "2024-12-08T10:30:45.123456Z"), ("pid", 1234),
        ("uid", 1000), ("process", "nginx"), ("exe", "/usr/sbin/nginx"),
        ("file", "/etc/ssl/certs/server.crt"), ("file_type", "certificate"), ("flags", "O_RDONLY"),
        ("result", 3), ("tid", 1235), ("gid", 100), ("file_kind", "x509"), ("unit", "nginx.service"),
        ("user", "USER"),
    ]  # fmt: skip


def test_a_load_has_the_documented_keys_first(host: FakeHost) -> None:
    """How the kernel knows the file and where it is mapped is nobody's business."""
    document = printer(host, Truth()).document(loaded())

    assert list(document.items())[:8] == [
        ("event_type", "lib_load"), ("timestamp", "2024-12-08T10:30:45.123456Z"), ("pid", 1234),
        ("uid", 1000), ("process", "nginx"), ("exe", "/usr/sbin/nginx"),
        ("library", "/usr/lib/libssl.so.3"), ("library_name", "libssl"),
    ]  # fmt: skip
    assert list(document.items())[8:] == [
        ("tid", 1235), ("gid", 100), ("library_family", "openssl"), ("library_version", "3.0.19"),
        ("known_by", "content"), ("unit", "nginx.service"), ("user", "alice"),
    ]  # fmt: skip
    assert printer(host, Truth()).document(loaded(deleted=True))["deleted"] is True


def test_a_library_is_called_what_its_bytes_are(host: FakeHost) -> None:
    """A copy by another name, and one that is linked into a module; the path is the file's own."""
    inside = LoadedLibrary(
        family="openssl",
        name="libcrypto",
        soname=None,
        version=None,
        build_id=None,
        embedded=True,
        by="content",
    )

    document = printer(host, Truth(), library=inside).document(loaded(library="/opt/x.so", library_name="x"))

    assert (document["library"], document["library_name"]) == ("/opt/x.so", "libcrypto")
    assert document["embedded"] is True
    assert "library_version" not in document


def test_a_file_that_is_no_library_of_cryptography_is_not_shown(host: FakeHost) -> None:
    """Every program loads the C library."""
    nothing = events.Printer(
        host.host, Truth(),
        placement=lambda _: Placement(), file_kind=lambda _: CERTIFICATE, library=lambda _: None,
    )  # fmt: skip

    assert nothing.document(loaded(library="/usr/lib/libc.so.6", library_name="libc")) is None
    assert nothing.document(opened()) is not None


def test_a_start_has_the_documented_keys_first(host: FakeHost) -> None:
    """With the real arguments, as a line."""
    document = printer(host, Truth()).document(started(b"openssl", b"version"))

    assert list(document.items())[:8] == [
        ("event_type", "process_exec"), ("timestamp", "2024-12-08T10:30:45.123456Z"), ("pid", 1234),
        ("uid", 1000), ("process", "nginx"), ("exe", "/usr/sbin/nginx"),
        ("ppid", 1000), ("cmdline", "openssl version"),
    ]  # fmt: skip
    assert "argv" not in document


def test_an_end_has_the_documented_keys_first(host: FakeHost) -> None:
    """0 is a code and is printed; a signal only where there was one."""
    document = printer(host, Truth()).document(ended())

    assert list(document.items())[:7] == [
        ("event_type", "process_exit"), ("timestamp", "2024-12-08T10:30:45.123456Z"), ("pid", 1234),
        ("uid", 1000), ("process", "nginx"), ("exe", "/usr/sbin/nginx"), ("exit_code", 0),
    ]  # fmt: skip
    assert "signal" not in document
    killed = printer(host, Truth()).document(ended(exit_code=137, signal="SIGKILL"))
    assert (killed["exit_code"], killed["signal"]) == (137, "SIGKILL")


@pytest.mark.parametrize(
    "event", [opened(), loaded(), started(b"x"), ended()], ids=lambda event: type(event).__name__
)
def test_what_is_not_known_is_null_and_the_key_is_there(host: FakeHost, event: Event) -> None:
    """Scripts that read `.exe` find it; what has a default is left out otherwise."""
    unknown = msgspec.structs.replace(event, exe=None)

    document = printer(host, Truth()).document(unknown)

    assert document["exe"] is None
    assert [name for name, value in document.items() if value is None] == ["exe"]
    assert "count" not in document
    assert json.loads(msgspec.json.encode(document)) == document


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        (FileKind(file_type="private_key", kind="pkcs8"), {"file_type": "private_key", "file_kind": "pkcs8"}),
        (FileKind(file_type="keystore"), {"file_type": "keystore"}),
        # A name of the kind, and content of another: printed, and not called what it is not.
        (FileKind(file_type="unknown"), {"file_type": "unknown"}),
        (FileKind(file_type="unknown", kind="csr"), {"file_type": "unknown", "file_kind": "csr"}),
    ],
)
def test_the_files_kind_is_one_of_four_words_and_a_finer_one(
    host: FakeHost, kind: FileKind, printed: dict[str, str]
) -> None:
    """The four words are those that scripts compare with."""
    document = printer(host, Truth(), kind=kind).document(opened())

    assert {name: document[name] for name in document if name.startswith("file_")} == printed


def test_a_failed_open_says_how_it_failed(host: FakeHost) -> None:
    """The negative number and its name."""
    document = printer(host, Truth()).document(opened(result=-2, error="ENOENT"))

    assert (document["result"], document["error"]) == (-2, "ENOENT")


def test_the_container_is_told_where_there_is_one(host: FakeHost) -> None:
    """And the unit with it, in one word, as everywhere."""
    inside = printer(host, Truth(), placement=Placement(unit="nginx.service", container="docker"))
    nowhere = printer(host, Truth(), placement=Placement())

    document = inside.document(ended())
    assert (document["unit"], document["container"]) == ("docker/nginx.service", "docker")
    document = nowhere.document(ended())
    assert document["unit"] == "-"
    assert "container" not in document


def test_every_type_of_event_is_known_by_what_it_is_about() -> None:
    """So that a filter need not attach what it will never show."""
    assert events.types_with("file") == {"file_open"}
    assert events.types_with("library") == {"lib_load"}
    assert events.types_with("nonsense") == set()


# -- people --------------------------------------------------------------------------------------------------

NAMING = [
    opened(file="/home/alice/key.pem"),
    opened(file="/home/alice/key.pem", file_raw="../alice/key.pem"),
    opened(exe="/home/alice/bin/x"),
    opened(exe="/home/alice/bin/x (deleted)"),
    loaded(library="/home/alice/lib/libssl.so"),
    started(b"cat", b"/home/alice/key.pem"),
    started(b"x", b"--cert=/home/alice/key.pem"),
    started(b"x", b"-I/home/alice/include"),
    started(b"x", b"file:///home/alice/key.pem"),
    started(b"x", b"//home//alice/key.pem"),
    started(b"x", b"/tmp/.././home/alice/key.pem"),
    started(b"x", b"a:/home/alice/a:/home/alice/b"),
    started(b"x", b"/home/other/a:/home/alice/b,/home/alice/c"),
    started(b"sh", b"-c", b"cat '/home/alice/my key.pem' >/home/alice/out; ls /home/alice"),
    started(b"x", b"/home/alice"),
    started(b"x", b'{"path":"/home/alice/x"}'),
    started(b"/home/alice/bin/x"),
]


@pytest.mark.parametrize("event", NAMING, ids=repr)
def test_nobody_is_named(host: FakeHost, event: Event) -> None:
    """In no key of an event, and wherever in a command line a path begins."""
    hidden = json.dumps(printer(host, Printed(ALICE)).document(event))
    true = json.dumps(printer(host, Truth()).document(msgspec.structs.replace(event, uid=0)))

    assert "alice" not in hidden
    assert "USER" in hidden
    assert "alice" in true


def test_homes_elsewhere_and_roots_are_hidden_too(host: FakeHost) -> None:
    """As everywhere."""
    document = printer(host, Printed(ALICE)).document(
        started(b"cp", b"/root/a.key", b"/srv/people/bob/a.key", b"/etc/ssl/a.key")
    )

    assert document["cmdline"] == "cp /home/ROOT/a.key /home/USER/a.key /etc/ssl/a.key"


def test_the_name_as_it_was_written_stays_where_it_names_nobody(host: FakeHost) -> None:
    """It tells how a program finds its files."""
    event = opened(file="/etc/ssl/a.pem", file_raw="ssl/a.pem")

    assert printer(host, Printed(ALICE)).document(event)["file_raw"] == "ssl/a.pem"


def test_a_secret_on_a_command_line_is_masked_whoever_reads(host: FakeHost) -> None:
    """--no-redact is about people, not about passwords."""
    event = started(b"openssl", b"pkey", b"-passin", b"pass:hunter2", b"--password=hunter2")

    for redaction in (Truth(), Printed(ALICE)):
        assert "hunter2" not in json.dumps(printer(host, redaction).document(event))


def test_what_was_cut_loses_its_last_word(host: FakeHost) -> None:
    """Half of a secret has no mark that tells it."""
    event = started(b"x", b"--pass", b"hunt", truncated=True)

    document = printer(host, Truth()).document(event)
    assert "hunt" not in document["cmdline"]
    assert document["truncated"] is True
