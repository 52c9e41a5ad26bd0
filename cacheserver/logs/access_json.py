"""Access log lines: one JSON object per answer, made on the event loop and handed over in batches.

Owns: what a line says and how it is encoded. Writing it is ``logs.writer``'s. Must not raise because of a record, and
never writes a query string or user information (tokens live there).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cacheserver.core.request.answer_record import AnswerRecord

_FLUSH_BYTES: Final = 64 * 1024
_FLUSH_S: Final = 0.2
_PATH_LIMIT: Final = 1024
_TEMPLATES_LIMIT: Final = 64
_FIELD_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class LineTemplate:
    """An encoded line but for time, status, bytes, duration and range."""

    head: bytes
    middle: bytes
    tail: bytes


class AccessLogLines:
    """Collects lines for up to 0.2 s or 64 KiB.

    ``hand_over`` takes whole lines, each with its end, and their number; it must not block.
    """

    def __init__(self, hand_over: Callable[[bytes, int], None], *, wall_s: Callable[[], float] = time.time) -> None:
        self._hand_over = hand_over
        self._wall_s = wall_s
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._second_text = ""
        self._shown_from_s = self._shown_until_s = 0.0
        """The time that ``_shown_time`` is right for: one millisecond."""
        self._shown_time = b""

    def record(self, answer: AnswerRecord, known: dict[str, LineTemplate] | None = None) -> None:
        """Add one answer; a query in its path is cut off here. At most 5 µs, never raises.

        ``known`` is for answers that differ in their numbers and their client alone, and makes that 1 µs: it has the
        encoded parts by client address, and takes in new ones.
        """
        template = None if known is None else known.get(answer.client.address)
        if template is None:
            template = self._template(answer)
            if known is not None:
                if len(known) >= _TEMPLATES_LIMIT:
                    known.clear()
                known[answer.client.address] = template
        text = self._line(template, answer)
        self._lines.append(text)
        self._size_bytes += len(text)
        if self._size_bytes >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._arm()

    def _template(self, answer: AnswerRecord) -> LineTemplate:
        request, client = answer.request, answer.client.address
        line = {
            "ts": "",
            "client": client,
            "method": request.method[:32],
            "form": request.form,
            "service": request.service,
            "host": request.host[:_FIELD_LIMIT],
            "path": bare_path(request.path),
            "status": 0,
            "bytes": 0,
            "duration_ms": 0.0,
            "outcome": answer.cut or answer.outcome,
            "cache": answer.cache_status[:_FIELD_LIMIT],
            "range": None,
            "ua": None if request.user_agent is None else request.user_agent[:_FIELD_LIMIT],
        }
        text = self._encoded(line)
        head, rest = text[len(b'{"ts":"') :].split(b'"status":0,"bytes":0,"duration_ms":0.0', 1)
        middle, tail = rest.split(b'"range":null', 1)
        return LineTemplate(head + b'"status":', middle + b'"range":', tail)

    def _line(self, template: LineTemplate, answer: AnswerRecord) -> bytes:
        wall_s, shown = self._wall_s(), answer.range
        if not self._shown_from_s <= wall_s < self._shown_until_s:
            self._show(wall_s)
        return b'{"ts":"%b%b%d,"bytes":%d,"duration_ms":%.3f%b%b%b' % (
            self._shown_time,
            template.head,
            answer.status,
            answer.body_bytes,
            answer.duration_s * 1000,
            template.middle,
            b'"bytes=%b"' % shown if type(shown) is bytes else self._encoded(shown and shown[:_FIELD_LIMIT]),
            template.tail,
        )

    def _encoded(self, value: object) -> bytes:
        """JSON of ASCII characters alone."""
        try:
            text = self._encode(value)
        except Exception:  # lone surrogates; json knows how to escape them
            text = b"\xff"
        if text.isascii() and b"\x7f" not in text:
            return text
        return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii")

    def flush(self) -> None:
        """Hand the collected lines over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        batch, lines = b"\n".join(self._lines) + b"\n", len(self._lines)
        self._lines.clear()
        self._size_bytes = 0
        self._hand_over(batch, lines)

    def _arm(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        except RuntimeError:  # no loop that would call back
            self.flush()

    def _show(self, wall_s: float) -> None:
        """Make RFC 3339 in UTC with milliseconds; the part down to the second is made once a second."""
        millis = int(wall_s * 1000)
        second = millis // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        self._shown_from_s, self._shown_until_s = millis / 1000, (millis + 1) / 1000
        self._shown_time = f"{self._second_text}.{millis % 1000:03d}Z".encode("ascii")


def bare_path(target: str) -> str:
    """``target`` without query, fragment and user information, bounded."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/") and "@" in path:
        scheme, found, rest = path.partition("://")
        authority, slash, tail = (rest if found else path).partition("/")
        path = f"{scheme}://" if found else ""
        path += authority.rpartition("@")[2] + slash + tail
    return path[:_PATH_LIMIT]
