"""The log as lines of JSON on standard error. Of a request it holds no text unless that is asked for."""

import json
import logging
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from shopfit.serve.request_record import RequestRecord

logger = logging.getLogger(__name__)

_MOST_WAITING = 10_000  # lines, while whoever reads them is slow; more are dropped
_GATHERED = 0.05  # seconds that a line waits for others
_PATIENCE = 5.0  # seconds for the last lines
_LONGEST_TEXT = 4_000  # characters of all texts of a request
FIELDS = {
    "endpoint": "method and pattern of the path",
    "status": "of HTTP; 499 if the client went away before its answer began",
    "milliseconds": "from the request to the end of its answer",
    "answer": "id of the answer",
    "key": "public id of the key",
    "merchant": "whose limits it counts for",
    "version": "that answered, such as `acme/review-sentiment@7`",
    "release": "why that version: `production`, `canary` or `named`",
    "tokens_read": "tokens that forwards read",
    "tokens_written": "tokens that were generated",
    "texts": f"fields of what was asked, as JSON, with `--log-texts`: the first {_LONGEST_TEXT:,} characters",
}
"""What a line says of a request beside `time`, `level`, `logger` and `message`; what is empty is left out."""
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


class _Lines(logging.Handler):
    """Writes lines from a thread, all that wait in one piece, and drops records while that one is stuck."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: SimpleQueue[logging.LogRecord | None] = SimpleQueue()  # None at the end
        self._thread = threading.Thread(target=self._run, name="shopfit-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(
                record
            )  # it stays in this process, so it may be formatted later, on the thread that writes

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(_PATIENCE)
        super().close()

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            if record.name == __name__:  # of requests there are many: a thread that wakes for each costs more than it
                time.sleep(_GATHERED)
            lines = [self._line(record)]
            with suppress(Empty):
                while (record := self._waiting.get_nowait()) is not None:
                    lines.append(self._line(record))
            self._write("".join(lines))
            if record is None:
                return

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return ""

    def _write(self, lines: str) -> None:
        with suppress(OSError, ValueError):  # nobody reads them any more
            self._stream.write(lines)
            self._stream.flush()


def log_to_stderr() -> None:
    """Write this process's log to standard error as lines of JSON, from a thread: a full pipe delays no answer."""
    # of what a record may hold, the lines say none
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    writing = _Lines(sys.stderr)
    writing.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[writing], force=True)
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
