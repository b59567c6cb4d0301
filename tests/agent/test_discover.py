# SPDX-License-Identifier: Apache-2.0
"""Plug-ins are found by folder: a new one is a new file and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agent import discover


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with two plug-ins, a module that is none, and one that breaks when it is imported."""
    package = tmp_path / "planted_plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "zebra.py").write_text('"""Stripes\nin two lines.\n\nAnd more."""\n')
    (package / "ant.py").write_text('"""Small."""\n')
    (package / "_shared.py").write_text("raise RuntimeError('imported for nothing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("planted_plugins")
    for name in [name for name in sys.modules if name.startswith("planted_plugins")]:
        del sys.modules[name]


def test_names_are_sorted_and_nothing_is_imported(folder: ModuleType) -> None:
    """Start-up is most of what a short command costs."""
    assert discover.names(folder) == ["ant", "zebra"]
    assert not [name for name in sys.modules if name.startswith("planted_plugins.")]


def test_a_new_file_is_a_new_plugin(folder: ModuleType) -> None:
    """Without a list to edit."""
    Path(folder.__path__[0], "bee.py").write_text('"""Busy."""\n')

    assert list(discover.plugins(folder)) == ["ant", "bee", "zebra"]


def test_one_is_imported_by_its_name(folder: ModuleType) -> None:
    """And no other with it."""
    assert discover.plugin(folder, "ant").__name__ == "planted_plugins.ant"
    assert "planted_plugins.zebra" not in sys.modules


def test_its_help_is_the_first_sentence_of_its_docstring(folder: ModuleType) -> None:
    """On one line; a plug-in that says nothing has none."""
    plugins = discover.plugins(folder)
    assert discover.help_text(plugins["zebra"]) == "Stripes in two lines."
    assert discover.help_text(ModuleType("silent")) == ""
