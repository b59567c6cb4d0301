# SPDX-License-Identifier: Apache-2.0
"""Where do things of cryptography stand on a disk, and whose are they?"""

from __future__ import annotations
