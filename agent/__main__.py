# SPDX-License-Identifier: Apache-2.0
"""The entry of `python -m agent` and of the frozen file."""

from __future__ import annotations

import sys

from agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
