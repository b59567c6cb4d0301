# SPDX-License-Identifier: Apache-2.0
"""The document of one process, built of events and of what was there before: no kernel, no /proc."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import Host
from agent.kernel.probes import Event
from agent.kernel.probes.file_open import FileOpen
from agent.kernel.probes.lib_load import FileIdentity, LibLoad
from agent.kernel.probes.process_exec import Argv, ProcessExec
from agent.kernel.probes.process_exit import ProcessExit
from agent.model import canonical
from agent.printing.loaded import LoadedLibrary
from agent.printing.profile import CHILDREN_MAX, Coverage, Profile
from agent.printing.profile_record import FILES_MAX
from agent.readers.file_kind import FileKind
from agent.redact import People, Printed, Redaction, Truth
from agent.survey.process import HeldFile, HeldLibrary
from agent.survey.subject import Subject

TICK_NS = 10_000_000
BEGAN = "2026-01-01T00:01:00.000000Z"
KEY = FileKind(file_type="private_key", kind="pkcs8")
WHOLE = Coverage(methods={"file_open": "libbpf CO-RE"})
SSL = LoadedLibrary(
    family="openssl", name="libssl", soname="libssl.so.3", version="3.0.19", build_id=None, by="content"
)
HELD_SSL = HeldLibrary(path="/usr/lib/libssl.so.3", family="openssl", name="libssl", version="3.0.19")


def moment(ticks: int) -> str:
    """A host that was booted when 2026 began."""
    return canonical.timestamp(1_767_225_600_000_000_000 + ticks * TICK_NS)


def at(second: float) -> str:
    """So many seconds after BEGAN."""
    return moment(int(6000 + second * 100))


def subject(pid: int = 100, **more: object) -> Subject:
    """A web server that was started ten seconds after boot."""
    known: dict[str, Any] = {
        "start_ticks": 1000, "parent": 1, "name": "nginx", "exe": "/usr/sbin/nginx",
        "argv": (b"nginx", b"-p", b"x"), "is_argv_cut": False, "uid": 33, "gid": 34,
    }  # fmt: skip
    known |= more
    return Subject(pid=pid, **known)


def event(kind: type[Event], *, pid: int = 100, second: float = 1, **more: object) -> Event:
    """An event of that process, or of another."""
    known: dict[str, Any] = {
        "timestamp": at(second), "pid": pid, "tid": pid, "uid": 33, "gid": 34, "process": "nginx",
        "exe": "/usr/sbin/nginx", "start_ns": 1000 * TICK_NS,
    }  # fmt: skip
    known |= more
    return kind(**known)


def opened(
    path: str = "/etc/ssl/web.key", flags: str = "O_RDONLY|O_CLOEXEC", result: int = 3, **more: object
) -> Event:
    """An open."""
    known: dict[str, Any] = {"file": path, "flags": flags, "result": result}
    known |= more
    return event(FileOpen, **known)


def loaded(path: str = "/usr/lib/libssl.so.3", **more: object) -> Event:
    """A load."""
    known: dict[str, Any] = {
        "library": path, "library_name": "libssl", "identity": FileIdentity(1, 2, 3, 4), "address": 0,
        "length": 1,
    }  # fmt: skip
    known |= more
    return event(LibLoad, **known)


def ended(pid: int = 100, second: float = 9, **more: object) -> Event:
    """An end."""
    known: dict[str, Any] = {"ppid": 1, "exit_code": 0}
    known |= more
    return event(ProcessExit, pid=pid, second=second, **known)


def profile(*events: Event, follow: bool = False, kind: FileKind | None = KEY) -> Profile:
    """A profile of these events."""
    found = Profile(subject(), began=BEGAN, moment=moment, is_following=follow)
    for one in events:
        see(found, one, kind)
    return found


def see(found: Profile, one: Event, kind: FileKind | None = KEY) -> None:
    """Every file is a key, every library libssl."""
    found.see(one, library=lambda _event: SSL, file_kind=lambda _event: kind)


def document(
    found: Profile, redaction: Redaction | None = None, coverage: Coverage = WHOLE
) -> dict[str, Any]:
    """As a reader gets it, through JSON."""
    made = found.document(Host(), redaction or Truth(), generated=at(30), duration_s=30.4, coverage=coverage)
    read: dict[str, Any] = json.loads(msgspec.json.encode(made))
    return read


def test_an_idle_process_has_a_full_document() -> None:
    """crypto-tracer printed nothing at all for it."""
    found = document(profile())

    assert list(found) == [
        "profile_version", "generated_at", "duration_seconds", "process", "libraries", "files_accessed",
        "api_calls", "statistics", "coverage",
    ]  # fmt: skip
    assert found["profile_version"] == "1.0"
    assert found["generated_at"] == "2026-01-01T00:01:30.000000Z"
    assert found["duration_seconds"] == 30
    assert found["process"] == {
        "pid": 100, "ppid": 1, "name": "nginx", "exe": "/usr/sbin/nginx", "cmdline": "nginx -p x", "uid": 33,
        "gid": 34, "running_as": Host().user(33), "start_time": "2026-01-01T00:00:10.000000Z",
    }  # fmt: skip
    assert (found["libraries"], found["files_accessed"], found["api_calls"]) == ([], [], [])
    assert found["statistics"] == {
        "total_events": 0, "libraries_loaded": 0, "files_accessed": 0, "api_calls_made": 0, "failed_opens": 0,
    }  # fmt: skip
    assert found["coverage"] == {
        "status": "complete", "lost_events": 0, "methods": {"file_open": "libbpf CO-RE"},
    }  # fmt: skip


def test_opens_of_a_file_are_counted_from_the_first_to_the_last() -> None:
    """One entry per path, with both moments and both ways."""
    found = document(
        profile(opened(second=1), opened(second=5, flags="O_RDWR"), opened(second=3), opened("/etc/a.crt"))
    )

    assert found["files_accessed"] == [
        {
            "path": "/etc/a.crt", "type": "private_key", "access_count": 1, "first_access": at(1),
            "last_access": at(1), "mode": "read", "kind": "pkcs8",
        },
        {
            "path": "/etc/ssl/web.key", "type": "private_key", "access_count": 3, "first_access": at(1),
            "last_access": at(5), "mode": "read-write", "kind": "pkcs8",
        },
    ]  # fmt: skip
    assert found["statistics"]["total_events"] == 4
    assert found["statistics"]["files_accessed"] == 2


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ("O_RDONLY", "read"),
        ("O_WRONLY|O_CREAT", "write"),
        ("O_RDWR", "read-write"),
        ("", None),
        ("0x3", None),
    ],
)
def test_the_mode_is_what_the_file_was_opened_for(flags: str, mode: str | None) -> None:
    """Null where the flags could not be read; never a guess."""
    (found,) = document(profile(opened(flags=flags)))["files_accessed"]

    assert found["mode"] == mode


def test_an_open_that_failed_accessed_nothing() -> None:
    """OpenSSL looks for files that are not there all day; that it did is a number."""
    found = document(profile(opened(result=-2, error="ENOENT"), opened(result=-13, error="EACCES")))

    assert found["files_accessed"] == []
    assert found["statistics"]["failed_opens"] == 2
    assert found["statistics"]["total_events"] == 2


def test_a_file_that_does_not_count_is_no_event() -> None:
    """A configuration beside the keys."""
    found = document(profile(opened("/etc/ssl/openssl.cnf"), kind=None))

    assert found["statistics"]["total_events"] == 0


def test_what_was_there_before_counts_and_says_so() -> None:
    """Moments are moments for who parses them: the earliest possible, marked."""
    making = profile()
    held = HeldFile(path="/etc/ssl/web.key", file_type="private_key", file_kind="pkcs8")
    making.hold(subject(), [HELD_SSL], [(held, frozenset({"read"}))], at(0.5))
    see(making, opened(second=7))

    found = document(making)

    assert found["libraries"] == [
        {
            "name": "libssl", "path": "/usr/lib/libssl.so.3", "load_time": "2026-01-01T00:00:10.000000Z",
            "family": "openssl", "version": "3.0.19", "before_window": True,
        }
    ]  # fmt: skip
    assert found["files_accessed"] == [
        {
            "path": "/etc/ssl/web.key", "type": "private_key", "access_count": 2, "mode": "read",
            "first_access": "2026-01-01T00:00:10.000000Z", "last_access": at(7), "kind": "pkcs8",
            "before_window": True,
        }
    ]  # fmt: skip
    assert found["statistics"]["total_events"] == 1
    assert found["statistics"]["libraries_loaded"] == 1


def test_what_came_between_the_beginning_and_the_look_came_in_the_window() -> None:
    """The look finds it, and so it was there; the event knows that it was not there before."""
    making = profile()
    held = HeldFile(path="/etc/ssl/web.key", file_type="private_key", file_kind="pkcs8")
    making.hold(subject(), [HELD_SSL], [(held, frozenset({"read"}))], at(2))
    see(making, loaded(second=1))
    see(making, opened(second=1))
    see(making, opened(second=1))
    see(making, opened(second=3))

    found = document(making)

    ((library,), (file,)) = found["libraries"], found["files_accessed"]
    assert (library["load_time"], library.get("before_window")) == (at(1), None)
    assert (file["first_access"], file["access_count"], file.get("before_window")) == (at(1), 3, None)


def test_a_library_that_another_program_loads_again_was_there_before() -> None:
    """The process has become another program since."""
    making = profile()
    making.hold(subject(), [HELD_SSL], [], at(0.5))
    see(making, loaded(second=4))

    (library,) = document(making)["libraries"]
    assert library["before_window"]


def test_a_library_is_loaded_once() -> None:
    """In the order of time; found again at the end, it is the one that was seen."""
    making = profile(loaded(second=2), loaded(second=4), loaded("/opt/libssl.so.1.1", second=1))
    making.find(subject(), [HELD_SSL, msgspec.structs.replace(HELD_SSL, path="/opt/z.so")], at(29))

    found = document(making)

    assert [(one["path"], one["load_time"]) for one in found["libraries"]] == [
        ("/opt/libssl.so.1.1", at(1)),
        ("/usr/lib/libssl.so.3", at(2)),
        ("/opt/z.so", at(29)),
    ]
    assert found["statistics"]["libraries_loaded"] == 3


def test_a_library_that_was_recognised_by_its_name_says_so() -> None:
    """Its process had ended before anybody could read it."""
    making = profile()
    by_name = LoadedLibrary(
        family="openssl", name="libssl", soname=None, version=None, build_id=None, by="name"
    )
    making.see(loaded(), library=lambda _event: by_name, file_kind=lambda _event: None)

    (found,) = document(making)["libraries"]
    assert found["by"] == "name"


def test_a_library_of_no_cryptography_is_no_event() -> None:
    """Every program loads libc."""
    making = profile()
    making.see(loaded("/lib/libc.so.6"), library=lambda _event: None, file_kind=lambda _event: None)

    assert document(making)["statistics"]["total_events"] == 0


def test_an_end_is_told() -> None:
    """With the code or the signal."""
    making = profile(ended(exit_code=137, signal="SIGKILL"))

    process = document(making)["process"]

    assert making.has_ended
    assert making.subjects == []
    assert process["exit_time"] == at(9)
    assert process["exit_code"] == 137
    assert process["exit_signal"] == "SIGKILL"


def test_another_program_in_the_same_process_is_the_process_from_then_on() -> None:
    """A shell that execs; its arguments without the secret."""
    argv = Argv([b"openssl", b"rsa", b"-passin", b"pass:S3cr3t"])
    making = profile(
        event(ProcessExec, ppid=7, argv=argv, process="openssl", exe="/usr/bin/openssl (deleted)")
    )

    found = document(making)

    assert found["process"]["name"] == "openssl"
    assert found["process"]["exe"] == "/usr/bin/openssl"
    assert found["process"]["cmdline"] == "openssl rsa -passin pass:***"
    assert "S3cr3t" not in json.dumps(found)
    assert found["process"]["start_time"] == "2026-01-01T00:00:10.000000Z"


def test_another_process_with_the_same_number_is_not_this_one() -> None:
    """Numbers are given again."""
    found = document(profile(opened(start_ns=9000 * TICK_NS), opened(pid=101)))

    assert found["statistics"]["total_events"] == 0


def test_children_have_profiles_of_their_own() -> None:
    """Who read the key: the master or the worker."""
    making = profile(
        opened(),
        event(ProcessExec, pid=101, ppid=100, argv=Argv([b"sh"]), process="sh", start_ns=7000 * TICK_NS),
        opened("/etc/child.key", pid=101, start_ns=7000 * TICK_NS),
        opened("/etc/worker.key", pid=99, start_ns=6500 * TICK_NS),
        ended(101, start_ns=7000 * TICK_NS),
        follow=True,
    )

    found = document(making)

    assert [file["path"] for file in found["files_accessed"]] == ["/etc/ssl/web.key"]
    assert found["statistics"]["total_events"] == 1
    worker, child = found["children"]
    assert worker["process"]["pid"] == 99
    assert child["process"]["cmdline"] == "sh"
    assert child["process"]["ppid"] == 100
    assert child["process"]["exit_code"] == 0
    assert child["process"]["start_time"] == moment(7000)
    assert [file["path"] for file in child["files_accessed"]] == ["/etc/child.key"]
    assert child["statistics"]["total_events"] == 3
    assert "children" not in document(profile(opened(pid=101)))


def test_a_child_known_before_is_the_one_that_events_tell_of() -> None:
    """Workers were there before the window; a second one with the number of the first is a second one."""
    making = profile(follow=True)
    making.add_child(subject(101, start_ticks=2000, parent=100))
    making.add_child(subject(101, start_ticks=2000, parent=100))
    see(making, ended(101, start_ns=2000 * TICK_NS))
    see(making, opened(pid=101, start_ns=8000 * TICK_NS))

    first, second = document(making)["children"]

    assert (first["process"]["ppid"], first["statistics"]["total_events"]) == (100, 1)
    assert (second["process"]["pid"], second["statistics"]["total_events"]) == (101, 1)


def test_what_a_process_is_called_last_is_its_name() -> None:
    """Servers rename themselves; an old process's name is nobody else's."""
    making = profile()
    making.refresh(subject(name="nginx: old", argv=(b"nginx: worker process",)))
    making.refresh(subject(name="other", start_ticks=5))

    process = document(making)["process"]

    assert process["name"] == "nginx: old"
    assert process["cmdline"] == "nginx: worker process"


def test_people_are_hidden_last_and_their_files_add_up() -> None:
    """Two users' keys get one path; what was done with it is the sum."""
    making = profile(
        opened("/home/alice/a.key", second=4), opened("/home/bob/a.key", second=2, flags="O_WRONLY")
    )
    making.refresh(subject(exe="/root/bin/x", argv=(b"x", b"--key-file=/home/alice/a.key")))
    people = Printed(People({}, ["alice"]))

    found = document(making, people)

    assert found["files_accessed"] == [
        {
            "path": "/home/USER/a.key", "type": "private_key", "access_count": 2, "first_access": at(2),
            "last_access": at(4), "mode": "read-write", "kind": "pkcs8",
        }
    ]  # fmt: skip
    assert found["process"]["exe"] == "/home/ROOT/bin/x"
    assert found["process"]["cmdline"] == "x --key-file=/home/USER/a.key"
    assert found["statistics"]["files_accessed"] == 1
    assert len(document(making)["files_accessed"]) == 2  # and the truth was not changed by it


def test_what_may_not_be_seen_is_null() -> None:
    """The process belongs to somebody else, and we may watch but not look."""
    making = Profile(subject(exe=None, argv=None), began=BEGAN, moment=moment, is_following=False)

    process = document(making)["process"]

    assert (process["exe"], process["cmdline"]) == (None, None)


def test_what_was_not_seen_is_named() -> None:
    """Nothing seen and nothing there are two things."""
    coverage = Coverage(reasons=("lib_load is not watched: no",), lost_events=3, methods={})

    found = document(profile(), coverage=coverage)["coverage"]

    assert found == {
        "status": "partial", "reason": "lib_load is not watched: no", "lost_events": 3, "methods": {},
    }  # fmt: skip
    assert (
        document(profile(), coverage=Coverage(lost_events=1, methods={}))["coverage"]["status"] == "partial"
    )


def test_a_process_that_opens_everything_has_a_document_with_an_end() -> None:
    """And a fork bomb: what is beyond the limits is counted."""
    making = profile(follow=True)
    for number in range(FILES_MAX + 5):
        see(making, opened(f"/k/{number}.key"))
    for number in range(CHILDREN_MAX + 3):
        see(making, ended(1000 + number, start_ns=0))

    found = document(making)

    assert found["statistics"]["files_accessed"] == FILES_MAX
    assert found["statistics"]["accesses_omitted"] == 5
    assert found["statistics"]["total_events"] == FILES_MAX + 5
    assert len(found["children"]) == CHILDREN_MAX
    assert found["children_omitted"] == 3


EVENTS = st.lists(
    st.one_of(
        st.builds(
            opened,
            st.sampled_from(["/a.key", "/b.key"]),
            second=st.integers(0, 29),
            result=st.integers(-3, 3),
        ),
        st.builds(loaded, st.sampled_from(["/a.so", "/b.so"]), second=st.integers(0, 29)),
        st.builds(opened, pid=st.integers(101, 103)),
    ),
    max_size=30,
)  # fmt: skip


@given(EVENTS, st.booleans())
def test_the_numbers_add_up_whatever_happens(events: list[Event], follow: bool) -> None:
    """Every event is in exactly one process, every count is that of its list, every moment is in order."""
    found = document(profile(*events, follow=follow))

    each = [found, *found.get("children", [])]
    expected = len(events) if follow else sum(one.pid == 100 for one in events)
    assert sum(one["statistics"]["total_events"] for one in each) == expected
    for one in each:
        assert one["statistics"]["libraries_loaded"] == len(one["libraries"])
        assert one["statistics"]["files_accessed"] == len(one["files_accessed"])
        assert all(file["first_access"] <= file["last_access"] for file in one["files_accessed"])
        accesses = sum(file["access_count"] for file in one["files_accessed"])
        assert accesses + one["statistics"]["failed_opens"] <= one["statistics"]["total_events"]


@given(EVENTS)
def test_the_same_events_give_the_same_bytes(events: list[Event]) -> None:
    """Documents are compared."""
    assert document(profile(*events)) == document(profile(*events))
