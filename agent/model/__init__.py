# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the product: the inventory document and its parts. Imports nothing else of ours."""

from __future__ import annotations
