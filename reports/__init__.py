# SPDX-License-Identifier: Apache-2.0
"""reports JUDGES: pure functions over inventories. It holds every opinion and no fact of its own.

It touches no database, socket, process or clock: hosts come as `reports.view.HostView`, entries through a
`reports.view.Loader`, and the evaluation date is an argument. Of ours it imports `agent.model` alone.
"""

from __future__ import annotations
