# SPDX-License-Identifier: Apache-2.0
"""What every sink keeps to, those too that are not written yet."""

from __future__ import annotations

import inspect
from types import ModuleType

import msgspec
import pytest

from agent import discover, sinks

SINKS = discover.plugins(sinks)


@pytest.fixture(params=list(SINKS))
def sink(request: pytest.FixtureRequest) -> ModuleType:
    """Each sink there is."""
    return SINKS[request.param]


def test_the_sinks_are_found_by_folder() -> None:
    """A new one is a new file and nothing else."""
    assert {"file", "https", "stdout"} <= SINKS.keys()


def test_it_says_what_it_is(sink: ModuleType) -> None:
    """Its first sentence is its help."""
    assert discover.help_text(sink).endswith((".", ":"))
    assert isinstance(sink.SPEC, sinks.Spec)


def test_its_settings_are_frozen_and_can_be_told_in_texts(sink: ModuleType) -> None:
    """So that environment and command line can give them."""
    kind = sink.SPEC.settings

    assert issubclass(kind, msgspec.Struct)
    assert kind.__struct_config__.frozen
    for setting in msgspec.structs.fields(kind):
        schema = msgspec.json.schema(setting.type)
        assert schema.get("type") in {"string", "integer", "boolean", "array"} or "anyOf" in schema


def test_it_has_the_shape_of_a_sink(sink: ModuleType) -> None:
    """The conductor calls them all alike."""
    assert list(inspect.signature(sink.send).parameters) == ["draft", "settings", "context"]
    assert "Raises:" in (inspect.getdoc(sink.send) or "")
