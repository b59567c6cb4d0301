# SPDX-License-Identifier: Apache-2.0
"""Which plug-ins are there? Found by folder, also when frozen: a new one is a new file and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType


def names(folder: ModuleType) -> list[str]:
    """Names of the plug-ins in a folder, sorted; nothing is imported.

    Args:
        folder: the package; names that begin with an underscore are not plug-ins.
    """
    found = pkgutil.iter_modules(folder.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def plugin(folder: ModuleType, name: str) -> ModuleType:
    """The plug-in of that name, imported."""
    return importlib.import_module(f"{folder.__name__}.{name}")


def plugins(folder: ModuleType) -> dict[str, ModuleType]:
    """All plug-ins of a folder by name, sorted by name."""
    return {name: plugin(folder, name) for name in names(folder)}


def help_text(module: ModuleType) -> str:
    """First sentence of a plug-in's docstring: its line in help and reports."""
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")
