# SPDX-License-Identifier: Apache-2.0
"""What does an agent in other circumstances see? See test_circumstances.py, which runs this.

look.py FILE OPENER: opens a window, says `ready`, waits for a line, lets the opener open the file, and prints
one JSON object: the events of that file and its neighbours, the opener's process number, the account; or the
error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import msgspec

from agent import errors
from agent.host import Host
from agent.kernel.monitor import open_window
from agent.kernel.probes.file_open import FileOpen


def main() -> None:
    """See the module's docstring."""
    file, opener = sys.argv[1:3]
    try:
        window = open_window(Host(), ["file_open"], is_family_seen=True)
    except errors.AgentError as error:
        sys.stdout.buffer.write(msgspec.json.encode({"error": type(error).__name__, "message": str(error)}))
        return
    with window:
        print("ready", flush=True)
        sys.stdin.readline()
        before = time.time_ns()
        child = subprocess.Popen([opener, "openat", "23", file])
        child.wait()
        after = time.time_ns()
        window.stop()
        seen = [event for event in window.events() if isinstance(event, FileOpen)]
        (stats,) = window.stats()
    answer = {
        "events": [event for event in seen if os.path.dirname(event.file) == os.path.dirname(file)],
        "pid": child.pid,
        "before_ns": before,
        "after_ns": after,
        "stats": stats,
    }
    sys.stdout.buffer.write(msgspec.json.encode(answer))


main()
