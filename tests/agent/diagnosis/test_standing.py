# SPDX-License-Identifier: Apache-2.0
"""Where an agent stands, as far as it is not asked through the command (cli/test_status.py)."""

from __future__ import annotations

import pytest

from agent.diagnosis import standing
from agent.model.status import Posts


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (b"/usr/local/bin/fleet-agent run --window 60", True),
        (b"fleet-agent run", True),
        (b"/usr/bin/python3 -m agent run", True),
        (b"/usr/bin/python3.11 -X utf8 -m agent run", True),
        (b"/usr/bin/python3 /opt/bin/fleet-agent run", True),
        (b"fleet-agent run --once", False),
        (b"fleet-agent snapshot", False),
        (b"fleet-agent", False),
        (b"vim fleet-agent run", False),
        (b"python3 -m http.server run", False),
        (b"", False),
    ],
)
def test_the_service_is_known_by_its_arguments(words: bytes, expected: bool) -> None:
    """By itself, or under an interpreter; and not what only mentions it."""
    assert standing.is_service([*words.split(b" "), b""]) is expected


def test_the_next_post_is_when_the_collector_wanted_it() -> None:
    """Six digits and Z, as everywhere."""
    posts = Posts(delivered_at="2026-11-21T23:59:59.500000Z", next_post_s=60)

    assert standing.next_post_at(posts) == "2026-11-22T00:00:59.500000Z"
    assert standing.next_post_at(Posts()) is None
