# SPDX-License-Identifier: Apache-2.0
"""Formats: one file per way to print what the agent says.

The contract. A format is a module in this folder; its file name with `-` for `_` is its name on the command
line. It has

    def document(value: Any) -> bytes               one whole document, with its final newline
    def event(value: Any) -> bytes                  one event of a stream, complete by itself

or one of the two, where the other means nothing. Both are pure and deterministic.
"""

from __future__ import annotations

import sys
from types import ModuleType

from agent import discover, errors


def choose(name: str, use: str) -> ModuleType:
    """The format of that name.

    Args:
        use: "document" or "event": what is to be printed.

    Raises:
        UsageError: no such format, or not for this use; the message lists those that are.
    """
    fitting = {
        key.replace("_", "-"): module
        for key, module in discover.plugins(sys.modules[__name__]).items()
        if hasattr(module, use)
    }
    if name not in fitting:
        raise errors.UsageError(f"format {name!r} prints no {use}; use one of: {', '.join(fitting)}")
    module: ModuleType = fitting[name]
    return module
