"""Structured logs: one line an event, on standard error, without full phone numbers."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from bridge.config import Log

# Seven digits and more may be a number; ids and times of ours are not, and are let through by their key.
_DIGITS: Final = re.compile(r"(?<![0-9a-f-])(\+?[0-9]{3,11}?)[0-9]{4}(?![0-9a-f-])")
_OURS: Final = frozenset({"call", "timestamp", "sip_call_id", "uniqueid", "port", "level", "at"})


def hide_numbers(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last line of defence: the last four digits of anything like a number go, wherever it stands."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _OURS:
            event[key] = _DIGITS.sub(r"\1xxxx", value)
    return event


def configure(settings: Log) -> None:
    """Set up structlog for the process. Call once, before anything logs."""
    level = getattr(logging, settings.level.upper())
    last: Any = (
        structlog.processors.JSONRenderer() if settings.format == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_numbers,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Library()], force=True)


class _Library(logging.Handler):
    """What libraries say goes the same way as what we say."""

    def emit(self, record: logging.LogRecord) -> None:
        say = structlog.get_logger(record.name).log
        say(record.levelno, record.getMessage(), **({"exc_info": record.exc_info} if record.exc_info else {}))
