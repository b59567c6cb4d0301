# SPDX-License-Identifier: Apache-2.0
"""How does the collector tell what it does? One event a line on stderr: JSON, or words for a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import structlog


class _Unfailing:
    """A stream on which writing never fails: a log on a full disk must not cost a host its answer."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(stream: TextIO | None = None) -> None:
    """Send events of this process, the server library's included, to that stream (default: stderr)."""
    stream = stream or sys.stderr
    out = cast("TextIO", _Unfailing(stream))
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Names, types and lines of a failure, never the values of its variables: they may be a host's or a
        # token.
        structlog.processors.ExceptionRenderer(),
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(sort_keys=True)
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # asyncio says what uvicorn does not, for example that no more connections can be accepted.
    for name, level in (("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
