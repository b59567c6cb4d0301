# SPDX-License-Identifier: Apache-2.0
"""How does the agent live on a host for years?"""

from __future__ import annotations
