# SPDX-License-Identifier: Apache-2.0
"""List what this agent carries: scanners, probes, formats, sinks, the document's schema and the BPF objects.

A frozen file that lost a part in packaging looks healthy until the day that part is needed; this shows it at
once.

Examples:
    fleet-agent selftest
    fleet-agent selftest --format json | jq .scanners
"""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

import agent
from agent import cli, discover, errors, formats, scanners, sinks
from agent.kernel import iterators, loading, probes
from agent.kernel.object import read_image
from agent.model import canonical, schema
from agent.printing import output

# All probes are one object; what is iterated is another.
_OBJECTS = (loading.OBJECT, iterators.NAME)


def configure(parser: argparse.ArgumentParser) -> None:
    """One option."""
    parser.add_argument(
        "-f", "--format", choices=("text", "json"), default="text", metavar="FORMAT",
        help="one of: %(choices)s (default: text)",
    )  # fmt: skip


def report() -> dict[str, Any]:
    """What is there, by name; digests where bytes matter."""
    return {
        "version": agent.__version__,
        "schema_digest": canonical.digest(schema.PATH.read_bytes()),
        "commands": sorted(discover.plugins(cli)),
        "scanners": {name: module.SPEC.detector for name, module in discover.plugins(scanners).items()},
        "probes": sorted(discover.plugins(probes)),
        "formats": sorted(discover.plugins(formats)),
        "sinks": sorted(discover.plugins(sinks)),
        "bpf_objects": _bpf_objects(),
    }


def _bpf_objects() -> dict[str, str]:
    """Digests of the compiled kernel half; an object that is not there is left out."""
    found = {}
    for name in _OBJECTS:
        try:
            found[name] = canonical.digest(read_image(name))
        except errors.AttachError as error:
            cli.say(str(error))
    return found


def run(args: argparse.Namespace) -> int:
    """Print the report; exit 1 when a part is missing."""
    found = report()
    missing = [
        kind
        for kind in ("commands", "scanners", "probes", "formats", "sinks", "bpf_objects")
        if not found[kind]
    ]
    if set(found["bpf_objects"]) != set(_OBJECTS):
        missing.append("a BPF object")
    if schema.PATH.read_text() != schema.text():
        missing.append("the published schema (it differs from the types)")
    if args.format == "json":
        output.put(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        for kind, names in found.items():
            output.put(f"{kind}: {names if isinstance(names, str) else ', '.join(names)}\n".encode())
    if missing:
        cli.say(f"this agent lacks: {', '.join(missing)}; it was packaged wrongly")
        return errors.EXIT_FAILURE
    return errors.EXIT_COMPLETE
