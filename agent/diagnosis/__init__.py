# SPDX-License-Identifier: Apache-2.0
"""Which commands work here, and what is missing?"""

from __future__ import annotations
