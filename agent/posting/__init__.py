# SPDX-License-Identifier: Apache-2.0
"""How does what was seen reach the collector, whole and once?"""

from __future__ import annotations
