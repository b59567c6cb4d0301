# SPDX-License-Identifier: Apache-2.0
"""A snapshot in a few lines, for people."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.output import plain


def document(value: Any) -> bytes:  # noqa: ANN401 - a snapshot
    """Totals, then each section with its status and number of entries, and why it is not complete."""
    snapshot = msgspec.json.decode(msgspec.json.encode(value))
    sections = snapshot["inventory"]["manifest"]["sections"]
    parts = snapshot["inventory"]["parts"]
    host, kernel = plain(snapshot["hostname"]), plain(snapshot["kernel"] or "unknown")
    lines = [f"{host}, kernel {kernel}, {snapshot['generated_at']}"]
    lines += [f"{name.replace('_', ' ')}: {count}" for name, count in snapshot.get("summary", {}).items()]
    for name, state in sections.items():
        entries = sum(len(parts[digest]) for digest in state["parts"].values())
        why = f" ({plain(state['reason'])})" if "reason" in state else ""
        lines.append(f"section {name}: {state['status']}, {entries} entries{why}")
    return ("\n".join(lines) + "\n").encode()
