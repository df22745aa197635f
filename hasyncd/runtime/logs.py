"""The log: one line an event on stderr, JSON for machines, coloured text for a terminal.

What libraries say through `logging` (asyncio's complaints among them) takes the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog


def configure(stream: TextIO | None = None, *, level: int = logging.INFO, json: bool | None = None) -> None:
    """Sets up structlog and `logging`; may be called again.

    `json` None: JSON unless `stream` (stderr) is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    json = not stream.isatty() if json is None else json
    common: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[Any] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=_plain)]
        if json
        else [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time")]
    )
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    output = logging.StreamHandler(stream)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
            foreign_pre_chain=common,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)


def _plain(value: object) -> str:
    """Values that JSON does not know: bytes as hex, enums by their value, all else by its text."""
    if isinstance(value, bytes):
        return value.hex()
    return str(getattr(value, "value", value))
