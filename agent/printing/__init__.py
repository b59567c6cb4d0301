# SPDX-License-Identifier: Apache-2.0
"""How does what was seen reach who asked for it?"""

from __future__ import annotations
