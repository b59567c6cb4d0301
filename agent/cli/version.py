# SPDX-License-Identifier: Apache-2.0
"""Print the version of the agent and of its document.

Examples:
    fleet-agent version
"""

from __future__ import annotations

import argparse
import platform

import agent
from agent import cli
from agent.model.inventory import SCHEMA
from agent.printing import output


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Print it."""
    parts = f"(document schema {SCHEMA}, Python {platform.python_version()})"
    output.put(f"{cli.program()} {agent.__version__} {parts}\n".encode())
    return 0
