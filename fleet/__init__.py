# SPDX-License-Identifier: Apache-2.0
"""fleet REMEMBERS: it takes what the hosts say, keeps every host's history, and answers questions about it.

It is the only package that knows all others. SQL is only in `fleet.store`, HTTP only in `fleet.collector`.
"""

from __future__ import annotations
