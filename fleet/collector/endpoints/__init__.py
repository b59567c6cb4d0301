# SPDX-License-Identifier: Apache-2.0
"""Endpoints of the collector: one file each, with a Litestar controller named `Endpoint`.

A body is taken with `bodies.read` after its sender is known; a refusal is an `errors.RefusedError`; a write
is awaited with `Collector.durable`, so that no 2xx leaves before it is on disk. Headers that every answer
carries are added by `edge`.
"""

from __future__ import annotations
