# SPDX-License-Identifier: Apache-2.0
"""How do agents die while they post, in tests? A program that posts again and again, killed one call later.

    python https_lives.py DIRECTORY

The directory is the state directory of an enrolled host. Each life posts a new inventory and is killed with
SIGKILL before its Nth call that changes a file or uses the connection; the next life posts what it finds. One
line of JSON per death says what the second life was answered.
"""

from __future__ import annotations

import json
import os
import sys

from agent.host import Host
from agent.settings import Collector
from agent.sinks import Context, https
from agent.state import StateDirectory
from tests.agent.given import draft
from tests.agent.spool_lives import Death, in_child


def post(path: str, number: int) -> None:
    """Die posting inventory N."""
    Death(number)
    with StateDirectory(path) as state:
        https.send(draft(f"library-{number}"), https.Settings(), context(state))


def resume(path: str, number: int) -> None:
    """Post what a dead agent left, and say what became of it."""
    with StateDirectory(path) as state:
        receipt = https.resume(context(state))
    found = {"number": number, "outcome": receipt and receipt.outcome, "seq": receipt and receipt.seq}
    os.write(1, json.dumps(found).encode() + b"\n")


def context(state: StateDirectory) -> Context:
    """What the sink is given."""
    return Context(host=Host("/"), collector=Collector(timeout_s=20), state=state)


def main(path: str) -> None:
    """Die at every call there is."""
    number = 0
    while True:
        number += 1
        status = in_child(lambda number=number: post(path, number))  # type: ignore[misc]
        assert in_child(lambda number=number: resume(path, number)) == 0  # type: ignore[misc]
        if status == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1])
