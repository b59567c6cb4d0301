# SPDX-License-Identifier: Apache-2.0
"""Which plug-ins are there? Found by folder, also when frozen: a new one is a new file and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType


def plugins(folder: ModuleType) -> dict[str, ModuleType]:
    """Modules of a plug-in folder by name, sorted by name.

    Args:
        folder: the package; names that begin with an underscore are not plug-ins.
    """
    names = sorted(
        found.name for found in pkgutil.iter_modules(folder.__path__) if not found.name.startswith("_")
    )
    return {name: importlib.import_module(f"{folder.__name__}.{name}") for name in names}


def help_text(module: ModuleType) -> str:
    """First sentence of a plug-in's docstring: its line in help and reports."""
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")
