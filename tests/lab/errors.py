# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a lab, and whose fault is it?

LabError             the caller's or the product's: what happened, to which host, what to do
  LabRefusedError    the machine's: it cannot hold a lab; tests are skipped with this very reason
"""

from __future__ import annotations


class LabError(RuntimeError):
    """Something a person can act on; the command line prints it without a traceback."""


class LabRefusedError(LabError):
    """This machine, its kernel or this user's rights do not suffice for a lab."""
