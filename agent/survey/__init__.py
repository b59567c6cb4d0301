# SPDX-License-Identifier: Apache-2.0
"""What runs on this host, and what has it mapped and open?"""

from __future__ import annotations
