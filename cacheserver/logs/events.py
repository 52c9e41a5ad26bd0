"""The event log: one JSON line per record, whatever clients put into it.

Owns: formatting, escaping, rate limiting. Must not raise because of a record or of a full disk, and never writes a
query string or user information of a URL (tokens live there). Where a node runs, ``logs.writer`` writes the lines.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from cacheserver.core.shown import without_secrets

MESSAGE_LIMIT: Final = 2048
"""Most characters of one message."""
_FACT_LIMIT: Final = 512
_MEMBERS_LIMIT: Final = 64
_TRACEBACK_LIMIT: Final = 8192
_RESERVED: Final = frozenset(("ts", "level", "event", "logger", "message", "error", "dropped", "traceback"))
_BUCKETS_LIMIT: Final = 1024


class LogOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The event log (always stderr) and the access log."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level of the event log on stderr; debug adds tracebacks."),
    ] = "info"
    access: Annotated[bool, Meta(description="Write one line per answered request.")] = True
    access_format: Annotated[
        Literal["json", "combined"],
        Meta(description="Lines as JSON, or as nginx's combined form with more facts behind; taken up at a start."),
    ] = "json"
    access_file: Annotated[str, Meta(description="File of the access log, opened again on SIGHUP; empty: stderr.")] = ""


def printable(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """``text`` on one line: control, bidi and all other non-ASCII characters escaped, URLs bare, bounded in length."""
    cut = _bounded(without_secrets(text), limit)
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(char if " " <= char <= "~" else ascii(char)[1:-1] for char in cut)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass ``__name__``."""
    return logging.getLogger(name)


def event(logger: logging.Logger, name: str, /, *, severity: int = logging.INFO, **facts: object) -> None:
    """Log that ``name`` (a few fixed words, the rate limit's key) happened, with facts as JSON members."""
    if logger.isEnabledFor(severity):
        logger.log(severity, name, extra={"event": name, "facts": facts})


def configure(options: LogOptions, write: Callable[[bytes, int], None] | None = None) -> None:
    """Send every logger of the process to stderr as JSON lines; calling it again replaces the settings.

    ``write`` takes lines and their number instead, and must not block.
    """
    handler = logging.StreamHandler(sys.stderr) if write is None else _Handler(write)
    handler.setFormatter(JsonFormatter(tracebacks=options.level == "debug"))
    handler.addFilter(RateLimited())
    level = logging.getLevelNamesMapping()[options.level.upper()]
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger("cacheserver").setLevel(level)
    logging.captureWarnings(True)
    logging.raiseExceptions = False


class _Handler(logging.Handler):
    """Hands lines over."""

    def __init__(self, write: Callable[[bytes, int], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        self._write(f"{self.format(record)}\n".encode("ascii"), 1)


class JsonFormatter(logging.Formatter):
    """One ASCII JSON object per record; a traceback only when ``tracebacks``, and then inside a member."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``, without its line end; never raises."""
        line: dict[str, object] = {"ts": _timestamp(record.created), "level": record.levelname.lower()}
        name = getattr(record, "event", None)
        if isinstance(name, str):
            line["event"] = name[:_FACT_LIMIT]
        else:
            line["logger"] = record.name[:_FACT_LIMIT]
            line["message"] = _bounded(without_secrets(_message(record)), MESSAGE_LIMIT)
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            for key, value in list(facts.items())[:32]:
                line[f"{key}_" if key in _RESERVED else key] = _plain(value)
        self._add_exception(record, line)
        if dropped := getattr(record, "dropped", 0):
            line["dropped"] = dropped
        return json.dumps(line, ensure_ascii=True, default=_plain).replace("\x7f", "\\u007f")

    def _add_exception(self, record: logging.LogRecord, line: dict[str, object]) -> None:
        if not record.exc_info or record.exc_info[0] is None:
            return
        kind, error, _ = record.exc_info
        line["error"] = kind.__name__
        if record.name.split(".", 1)[0] == "cacheserver":
            # Messages of other packages' errors quote requests, and with them tokens.
            line["error"] = _bounded(f"{kind.__name__}: {_plain(error)}", MESSAGE_LIMIT)
        if self._tracebacks:
            text = without_secrets("".join(traceback.format_exception(*record.exc_info)))
            line["traceback"] = text[-_TRACEBACK_LIMIT:]


class RateLimited(logging.Filter):
    """A token bucket per event name (or message template); the next record let through says how many were not."""

    def __init__(
        self, *, per_s: float = 2.0, burst: int = 50, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._per_s = per_s
        self._burst = float(burst)
        self._monotonic_s = monotonic_s
        self._lock = threading.RLock()  # a finaliser that logs may run while it is held
        self._buckets: dict[object, list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` may pass; sets ``record.dropped`` after a gap."""
        key: object = getattr(record, "event", None) or (record.name, str(record.msg)[:80])
        now_s = self._monotonic_s()
        with self._lock:
            if key not in self._buckets and len(self._buckets) >= _BUCKETS_LIMIT:
                key = ""  # more kinds of message than any honest run has: they share one bucket
            bucket = self._buckets.setdefault(key, [self._burst, now_s, 0.0])
            tokens, since_s, dropped = bucket
            tokens = min(self._burst, tokens + (now_s - since_s) * self._per_s)
            if tokens < 1.0:
                bucket[:] = tokens, now_s, dropped + 1
                return False
            bucket[:] = tokens - 1.0, now_s, 0.0
        if dropped:
            record.dropped = int(dropped)
        return True


def _timestamp(wall_s: float) -> str:
    millis = int(wall_s * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03d}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _plain(value: object) -> object:
    """A fact as a JSON value: numbers as they are, short lists, everything else as bounded text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value[:_MEMBERS_LIMIT]]
    try:
        return _bounded(without_secrets(str(value)), _FACT_LIMIT)
    except Exception:
        return type(value).__name__
