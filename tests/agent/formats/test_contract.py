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
DOCUMENTS = [name for name, module in FORMATS.items() if hasattr(module, "document")]
EVENTS = [name for name, module in FORMATS.items() if hasattr(module, "event")]
EVENT = {"event_type": "file_open", "pid": 7, "file": "/etc/new\nline \u001b[31m\u2028é日", "result": -2}


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
    module = ModuleType("caught")

    def document(value: Any) -> bytes:  # noqa: ANN401 - any document
        caught.append(value)
        return b""

    module.document = document  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "choose", lambda *_: module)
        assert args.run(args) == 0
    return caught[0]


def test_the_formats_are_found_by_folder() -> None:
    """A contract checked on nothing would be green."""
    assert {"json_pretty", "json_stream", "summary"} <= FORMATS.keys()


def test_it_says_what_it_is_and_prints_something(form: ModuleType) -> None:
    """A document, an event, or both."""
    assert discover.help_text(form).endswith(".")
    uses = [use for use in ("document", "event") if hasattr(form, use)]
    assert uses
    for use in uses:
        assert list(inspect.signature(getattr(form, use)).parameters) == ["value"]


def test_it_is_chosen_by_its_name_and_for_what_it_can(form: ModuleType) -> None:
    """On the command line, with hyphens; what it cannot is a usage error that names those that can."""
    name = form.__name__.rpartition(".")[2].replace("_", "-")
    for use in ("document", "event"):
        if hasattr(form, use):
            assert formats.choose(name, use) is form
        else:
            with pytest.raises(errors.UsageError, match=rf"format '{name}' prints no {use}; use one of: "):
                formats.choose(name, use)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_ends_with_a_newline_and_is_the_same_twice(name: str, snapshot: Any) -> None:  # noqa: ANN401
    """Whole lines, in UTF-8, and no control character for a terminal to obey."""
    data: bytes = FORMATS[name].document(snapshot)

    assert data.endswith(b"\n")
    assert data == FORMATS[name].document(snapshot)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", data.decode())


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_one_line_by_itself(name: str) -> None:
    """Readers of streams read lines, and may begin anywhere."""
    data: bytes = FORMATS[name].event(EVENT)

    assert data.endswith(b"\n")
    assert len(data.splitlines()) == 1
    assert data == FORMATS[name].event(EVENT)


@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("json")])
def test_json_is_json_and_loses_nothing(name: str, snapshot: Any) -> None:  # noqa: ANN401
    """By a reader that we did not write."""
    module = FORMATS[name]

    read = json.loads(module.document(snapshot))

    assert list(read) == list(snapshot)
    assert read["processes"] == snapshot["processes"]
    assert read["inventory"] == json.loads(bytes(snapshot["inventory"]))
    if hasattr(module, "event"):
        assert json.loads(module.event(EVENT)) == EVENT
