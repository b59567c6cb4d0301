# SPDX-License-Identifier: Apache-2.0
"""What keeps the agent a good guest? One look at a time, bounded, found bytes read by a powerless child."""

from __future__ import annotations
