# SPDX-License-Identifier: Apache-2.0
"""What does a window see of one process, from beside it and in a pid namespace of its own? See test_whose.py.

beside.py PROGRAM FILE IS_FOLLOWING: starts two shells that have PROGRAM (opener.c) open a file, watches one
of them by its number here, and prints one JSON object: that number, what was seen, the account.
"""

from __future__ import annotations

import json
import subprocess
import sys

from agent.host import Host
from agent.kernel.monitor import open_window

SCRIPT = 'read go; "$0" openat 1 "$1"; : <"$1"'


def main() -> None:
    """See the module's docstring."""
    program, file, is_following = sys.argv[1:4]
    words = ["sh", "-c", SCRIPT, program, file]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE) as watched,
        subprocess.Popen(words, stdin=subprocess.PIPE) as other,
    ):
        pid = watched.pid
        with open_window(Host(), pid=pid, is_following=is_following == "yes", is_family_seen=True) as window:
            for one in (watched, other):
                one.communicate(b"go\n")
            window.stop()
            seen = [
                (event.pid, type(event).__name__, getattr(event, "ppid", None), event.exe)
                for event in window.events()
            ]
            refused = {**window.refused}
            filtered = {stats.probe: stats.filtered for stats in window.stats()}
    print(json.dumps({"pid": pid, "seen": seen, "refused": refused, "filtered": filtered}))


main()
