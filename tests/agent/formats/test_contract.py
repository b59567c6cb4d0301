# SPDX-License-Identifier: Apache-2.0
"""What every way to print keeps to, those too that are not written yet."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent import cli, discover, errors, formats
from tests.agent.fake_host import FakeHost

FORMATS = discover.plugins(formats)
EVENT = {
    "event_type": "file_open",
    "pid": 7,
    "process": "c\u001b[31mat",
    "file": "/etc/new\nline \u001b[31m\u2028\u0085é日",
    "result": -2,
}
PROFILE = {
    "profile_version": "1.0",
    "generated_at": "2024-12-08T10:30:45.123456Z",
    "process": {"pid": 7, "name": "ngi\nnx", "exe": "/usr/sbin/nginx", "cmdline": "nginx"},
    "libraries": [{"name": "libssl", "path": "/usr/lib/libssl.so.3\u001b", "load_time": None}],
    "files_accessed": [
        {"path": f"/etc/ssl/{n}.pem", "type": "certificate", "access_count": n} for n in range(12)
    ],
    "statistics": {"total_events": 66, "libraries_loaded": 1, "files_accessed": 12},
}


@pytest.fixture(params=list(FORMATS.values()), ids=list(FORMATS))
def form(request: pytest.FixtureRequest) -> ModuleType:
    """Each format in turn."""
    found: ModuleType = request.param
    return found


@pytest.fixture
def snapshot(tmp_path: Path) -> Any:  # noqa: ANN401 - as the command makes it
    """A document, with names of every kind."""
    web = FakeHost(tmp_path / "web")
    web.process(10, b"new\nline\x1b[31m\xff")
    web.file("/proc/sys/kernel/hostname", b"w\x1b[31meb\n")
    args = cli.build_parser(["snapshot"]).parse_args(
        ["snapshot", "--root", str(web.root), "-o", str(tmp_path / "x")]
    )
    caught: list[Any] = []

    def document(value: Any) -> bytes:  # noqa: ANN401 - any document
        caught.append(value)
        return b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "document", lambda *_: document)
        assert args.run(args) == 0
    return caught[0]


def test_the_formats_are_found_by_folder() -> None:
    """A contract checked on nothing would be green."""
    assert formats.names("snapshot") == ["inventory", "json-array", "json-pretty", "json-stream", "summary"]
    assert formats.names("profile") == ["json-array", "json-pretty", "json-stream", "summary"]
    assert formats.names("stream") == ["json-array", "json-pretty", "json-stream", "summary"]


def test_it_says_what_it_is_and_prints_something(form: ModuleType) -> None:
    """Documents, a stream, or both."""
    assert discover.help_text(form).endswith(".")
    parts = [part for part in ("document", "snapshot", "profile") if hasattr(form, part)]
    assert parts or hasattr(form, "Stream")
    for part in parts:
        assert list(inspect.signature(getattr(form, part)).parameters) == ["value"]


def test_what_a_format_cannot_print_is_refused_with_those_that_can() -> None:
    """And so is a name that is none, or a file's own spelling of one."""
    for name in ("json_pretty", ""):
        with pytest.raises(errors.UsageError, match=f"^format '{name}' prints no snapshot; use one of: inv"):
            formats.document(name, "snapshot")
    with pytest.raises(errors.UsageError, match="prints no profile; use one of: json-array"):
        formats.document("inventory", "profile")
    with pytest.raises(errors.UsageError, match="prints no stream; use one of: json-array"):
        formats.stream("inventory")


def lines(data: bytes) -> list[str]:
    """Its lines, which are UTF-8, whole, and without control characters for a terminal to obey."""
    text = data.decode()
    assert text.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    return text.split("\n")[:-1]


@pytest.mark.parametrize("name", formats.names("snapshot"))
def test_a_snapshot_is_whole_lines_and_the_same_twice(name: str, snapshot: Any) -> None:  # noqa: ANN401
    """For files, terminals and comparisons."""
    data = formats.document(name, "snapshot")(snapshot)

    assert lines(data)
    assert data == formats.document(name, "snapshot")(snapshot)


@pytest.mark.parametrize("name", formats.names("profile"))
def test_a_profile_is_whole_lines_and_the_same_twice(name: str) -> None:
    """The same for the other document."""
    data = formats.document(name, "profile")(PROFILE)

    assert lines(data)
    assert data == formats.document(name, "profile")(PROFILE)


def streamed(name: str, events: list[Any]) -> bytes:
    """A whole stream."""
    form = formats.stream(name)()
    return b"".join([form.begin(), *(form.item(event) for event in events), form.end()])


@pytest.mark.parametrize("count", [0, 1, 2, 100])
@pytest.mark.parametrize("name", formats.names("stream"))
def test_a_stream_is_whole_lines_and_the_same_twice(name: str, count: int) -> None:
    """However many events there were; no stream knows of another one."""
    events = [EVENT | {"pid": number} for number in range(count)]
    data = streamed(name, events)

    assert not data or lines(data)
    assert data == streamed(name, events)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_streams_of_json_are_json_and_lose_nothing(count: int) -> None:
    """By a reader that we did not write; an array is one also when it is empty."""
    events = [EVENT | {"pid": number} for number in range(count)]

    for name in ("json-array", "json-pretty"):
        assert json.loads(streamed(name, events)) == events
    read = streamed("json-stream", events).split(b"\n")
    assert read.pop() == b""
    assert [json.loads(line) for line in read] == events


def test_only_lines_can_be_appended_to() -> None:
    """What ends with a bracket has ended."""
    whole = {name for name in formats.names("stream") if formats.stream(name)().is_whole}

    assert whole == {"json-array", "json-pretty"}


@pytest.mark.parametrize("name", ["json-array", "json-pretty", "json-stream"])
def test_json_is_json_and_loses_nothing(name: str, snapshot: Any) -> None:  # noqa: ANN401
    """By a reader that we did not write."""
    read = json.loads(formats.document(name, "snapshot")(snapshot))
    profile = json.loads(formats.document(name, "profile")(PROFILE))
    if name == "json-array":
        (read,), (profile,) = read, profile

    assert list(read) == list(snapshot)
    assert read["processes"] == snapshot["processes"]
    assert read["inventory"] == json.loads(bytes(snapshot["inventory"]))
    assert profile == PROFILE


def test_the_inventory_is_its_canonical_bytes(snapshot: Any) -> None:  # noqa: ANN401
    """What is hashed and posted, and a line feed."""
    assert formats.document("inventory", "snapshot")(snapshot) == bytes(snapshot["inventory"]) + b"\n"


def test_a_summary_of_events_counts_what_they_were_about() -> None:
    """By type, then the most frequent first, equal ones by name; and how many more there are."""
    events: list[dict[str, Any]] = [
        {"event_type": "file_open", "process": "b", "file": "/2"},
        {"event_type": "file_open", "process": "b", "file": "/1"},
        {"event_type": "lib_load", "process": "a", "library": "/l"},
        *({"event_type": "process_exit", "process": f"p{number:02}"} for number in range(20)),
    ]

    assert lines(streamed("summary", events)) == [
        "events: 23", "file_open: 2", "lib_load: 1", "process_exit: 20",
        "process b: 2", "process a: 1", *(f"process p{number:02}: 1" for number in range(8)),
        "process: 12 more", "library /l: 1", "file /1: 1", "file /2: 1",
    ]  # fmt: skip
    assert lines(streamed("summary", [])) == ["events: 0"]


def test_a_summary_does_not_grow_with_what_users_invent() -> None:
    """Whoever may open files may invent names without end."""
    form = formats.stream("summary")()
    for number in range(10_050):
        form.item({"event_type": "file_open", "process": "p", "file": f"/{number}"})

    text = form.end().decode()
    assert "events: 10050" in text
    assert "file (others): 50\n" in text


def test_a_summary_of_a_profile_is_its_statistics_and_what_was_used_most() -> None:
    """For people who want to see one process at a glance."""
    assert lines(formats.document("summary", "profile")(PROFILE)) == [
        "ngi\\u000anx (pid 7), 2024-12-08T10:30:45.123456Z",
        "total events: 66", "libraries loaded: 1", "files accessed: 12",
        "library /usr/lib/libssl.so.3\\u001b",
        *(f"file /etc/ssl/{number}.pem: {number}" for number in range(11, 1, -1)),
        "file: 2 more",
    ]  # fmt: skip
