# SPDX-License-Identifier: Apache-2.0
"""The collector: what agents reach over HTTPS. It checks everything before the store sees it.

An endpoint is a module in `endpoints` with one Litestar controller named `Endpoint`; nothing else has to be
edited to add one.
"""

from __future__ import annotations
