# SPDX-License-Identifier: Apache-2.0
"""How does a run go on when a scanner fails? The conductor: each scanner's outcome, and never a lost run."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from agent import discover, errors, scanners
from agent.document import Outcome
from agent.host import Host
from agent.scanners import Scan, Spec


def choose(names: Iterable[str] | None) -> dict[str, ModuleType]:
    """The scanners to run: those named, else all that run by default.

    Raises:
        UsageError: there is no scanner of that name; the message lists those there are.
    """
    found = discover.plugins(scanners)
    if names is None:
        return {name: module for name, module in found.items() if module.SPEC.default}
    chosen = {}
    for name in names:
        if name not in found:
            raise errors.UsageError(f"there is no scanner {name!r}; there are: {', '.join(found)}")
        chosen[name] = found[name]
    return chosen


def run_scanners(host: Host, chosen: Mapping[str, ModuleType]) -> dict[str, Outcome]:
    """Every scanner's outcome by section name."""
    return {
        name: run_one(module.SPEC, functools.partial(module.scan, host))
        for name, module in sorted(chosen.items())
    }


def run_one(spec: Spec, scan: Callable[[], Scan]) -> Outcome:
    """One scanner's outcome, whatever it does."""
    try:
        return Outcome(spec=spec, scan=scan())
    except errors.AgentError as error:
        return Outcome(spec=spec, failure=str(error))
    except MemoryError:
        return Outcome(spec=spec, failure="out of memory")
    except Exception as error:  # noqa: BLE001 - the one place where a bug of a scanner becomes its section's failure
        return Outcome(spec=spec, failure=f"bug in scanner: {describe(error)}; please report it")


def describe(error: BaseException) -> str:
    """Type and place of a bug. Its message is left out: it may quote a file, and a file may be a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
