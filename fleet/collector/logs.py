# SPDX-License-Identifier: Apache-2.0
"""How does the collector tell what it does? One event a line on stderr: JSON, or words for a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from typing import TextIO, cast

import structlog

# Words that are repeated at once are told again after this long.
_AGAIN_S = 1.0


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


class _Once(logging.Filter):
    """Lets words that follow themselves through once a second.

    Without descriptors left, asyncio tells it once for each place in the backlog, 2,048 times a second, each
    with a trace; a log that fills the disk would turn a shortage into an outage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ("", 0.0)

    def filter(self, record: logging.LogRecord) -> bool:
        # What follows the first line are numbers of this very event.
        words, now = record.getMessage().partition("\n")[0], time.monotonic()
        if words == self._last[0] and now - self._last[1] < _AGAIN_S:
            return False
        self._last = (words, now)
        return True


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
        logger.filters = [_Once()] if name == "asyncio" else []
        logger.setLevel(level)
        logger.propagate = False
