# SPDX-License-Identifier: Apache-2.0
"""The agent: sees which cryptography is on one Linux host, and states it with evidence and without opinion.

A closed package: it imports nothing else of the product, because the frozen file contains just this.
"""

from __future__ import annotations

__version__ = "0.1.0"
