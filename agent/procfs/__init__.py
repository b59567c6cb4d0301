# SPDX-License-Identifier: Apache-2.0
"""Pages of /proc: one file per page, bytes in, records out, no I/O."""

from __future__ import annotations
