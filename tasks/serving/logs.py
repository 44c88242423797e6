"""The server's log: a line of JSON for each message, without what was sent."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_log = logging.getLogger("verticals.serving")


def note(message: str, level: int = logging.INFO, error: BaseException | None = None, **facts: object) -> None:
    _log.log(level, message, exc_info=error, extra={"facts": facts})


def begin() -> None:
    """From now on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """The time, the level, the message and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        told = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts = {**facts, "trace": self.formatException(record.exc_info)}
        return json.dumps({**told, **facts}, ensure_ascii=False)
