"""The log of the server: one line of JSON per event, without the content of requests."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_log = logging.getLogger("verticals.serving")


def log_event(message: str, level: int = logging.INFO, error: BaseException | None = None, **facts: object) -> None:
    """Log an event.

    Args:
        message: what happened.
        level: of `logging`.
        error: whose traceback is logged.
        facts: further fields of the line.
    """
    _log.log(level, message, exc_info=error, extra={"facts": facts})


def configure_logging() -> None:
    """Write the log to standard error, as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """Formats time, level, message and facts as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        fields = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts = {**facts, "trace": self.formatException(record.exc_info)}
        return json.dumps({**fields, **facts}, ensure_ascii=False)
