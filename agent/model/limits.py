# SPDX-License-Identifier: Apache-2.0
"""How large may anything in a document be? The one list.

The agent keeps to it when it writes, the collector enforces it before it parses.
"""

from __future__ import annotations

# A manifest names sections and digests: 40 sections with five examples each stay under 64 KiB.
MANIFEST_BYTES_MAX = 256 * 1024
# `live` is what is true only now; it is in no digest and must never crowd out what is.
LIVE_BYTES_MAX = 16 * 1024
# A part is the sorted entries of one section. 8 MiB holds about 20,000 certificate entries (400 bytes each, measured on a
# Debian host with 300 certificates), forty times the largest section seen.
PART_BYTES_MAX = 8 * 1024 * 1024
# A whole document: printed by `snapshot`, carried by hand or by SSH.
DOCUMENT_BYTES_MAX = 64 * 1024 * 1024
# Request bodies as they cross the wire, after compression, and how far they may expand.
BODY_BYTES_MAX = 8 * 1024 * 1024
EXPANSION_RATIO_MAX = 100
# JSON nesting. The deepest honest document is 7 (inventory, parts, entries, entry, asset, signature, value).
DEPTH_MAX = 32
# One string: a path is at most 4,096 bytes, a distinguished name rarely more than 1 KiB.
STRING_CHARS_MAX = 64 * 1024
ENTRIES_MAX = 50_000
SECTIONS_MAX = 64
LABELS_MAX = 64
# Examples of what was skipped: enough to find the cause, not a second inventory.
EXAMPLES_MAX = 5
