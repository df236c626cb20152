"""The log as lines of JSON on standard error. Of a request it holds no text unless that is asked for."""

import atexit
import json
import logging
import queue
import sys
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from shopfit.serve.request_record import RequestRecord

logger = logging.getLogger(__name__)

_MOST_WAITING = 10_000  # lines, while whoever reads them is slow; more are dropped
_LONGEST_TEXT = 4_000  # characters of all texts of a request
_PROBES = ("GET /health", "GET /ready", "GET /metrics")


class JsonLines(logging.Formatter):
    """A record as one line of JSON, in ASCII: nothing in it can end the line or move a terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Waiting(QueueHandler):
    """Hands records to the thread that writes, and drops them while that one is stuck."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it stays in this process, so it may be formatted later, on the thread that writes

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


def log_to_stderr() -> None:
    """Write this process's log to standard error as lines of JSON, from a thread: a full pipe delays no answer."""
    writing = logging.StreamHandler(sys.stderr)
    writing.setFormatter(JsonLines())
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    listener = QueueListener(waiting, writing)
    listener.start()
    atexit.register(listener.stop)
    logging.basicConfig(level=logging.INFO, handlers=[_Waiting(waiting)], force=True)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # six lines at each start, of nothing


def log_request(record: RequestRecord, endpoint: str, status: int, seconds: float) -> None:
    """Log one request that is over.

    Args:
        record: of it.
        endpoint: method and the path's pattern.
        status: of HTTP; 499 if the client went away before its answer began.
        seconds: that it took.
    """
    if status < 400 and endpoint in _PROBES:  # they come every few seconds
        return
    fields: dict[str, Any] = {
        "endpoint": endpoint,
        "status": status,
        "milliseconds": round(1000 * seconds, 3),
        "answer": record.answer,
        "key": record.key,
        "merchant": record.merchant,
        "version": record.version,
        "release": record.release,
        "tokens_read": record.read,
        "tokens_written": record.written,
    }
    if record.texts:
        fields["texts"] = json.dumps(record.texts, ensure_ascii=False, default=str)[:_LONGEST_TEXT]
    logger.info("request", extra={"fields": {name: value for name, value in fields.items() if value != ""}})
