# SPDX-License-Identifier: Apache-2.0
"""What do the bytes of a found file say? Read where they can do no harm: nothing here opens anything."""

from __future__ import annotations
