"""Access log lines: one JSON object per answer, made on the event loop and handed over in batches.

Owns: what a line says and how it is encoded. Writing it is ``logs.writer``'s, in a worker the owner process's. Must not
raise because of a record, and never writes a query string or user information (tokens live there).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

_FLUSH_BYTES: Final = 64 * 1024
_FLUSH_S: Final = 0.2
_PATH_LIMIT: Final = 1024
_FIELD_LIMIT: Final = 256


class _Line(msgspec.Struct):
    """Member order of the line."""

    ts: str
    client: str
    method: str
    form: str
    service: str
    host: str
    path: str
    status: int
    bytes: int
    duration_ms: float
    outcome: str
    cache: str
    range: str | None
    ua: str | None


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
        self._milli = -1
        self._milli_text = b""

    def template(
        self,
        *,
        client: str,
        method: str,
        form: str,
        service: str,
        host: str,
        path: str,
        outcome: str,
        cache: str,
        ua: str | None,
    ) -> LineTemplate:
        """What is the same in many lines, encoded once; fill it in with ``record_again``."""
        line = _Line(
            "", client, method[:32], form, service, host[:_FIELD_LIMIT], bare_path(path), 0, 0, 0.0, outcome,
            cache[:_FIELD_LIMIT], None, None if ua is None else ua[:_FIELD_LIMIT],
        )  # fmt: skip
        text = _escaped(line)
        head, rest = text[len(b'{"ts":"') :].split(b'"status":0,"bytes":0,"duration_ms":0.0', 1)
        middle, tail = rest.split(b'"range":null', 1)
        return LineTemplate(head + b'"status":', middle + b'"range":', tail)

    def record_again(
        self, template: LineTemplate, status: int, body_bytes: int, duration_s: float, range_: bytes | None
    ) -> None:
        """Add one answer whose facts are mostly known; ``range_`` is plain digits and a hyphen. About 1 µs."""
        millis = int(self._wall_s() * 1000)
        if millis != self._milli:
            self._milli, self._milli_text = millis, self._now().encode("ascii")
        text = b'{"ts":"%b%b%d,"bytes":%d,"duration_ms":%.3f%b%b%b' % (
            self._milli_text,
            template.head,
            status,
            body_bytes,
            duration_s * 1000,
            template.middle,
            b"null" if range_ is None else b'"bytes=%b"' % range_,
            template.tail,
        )
        self._lines.append(text)
        self._size_bytes += len(text)
        if self._size_bytes >= _FLUSH_BYTES or self._timer is None:
            self._pass_on()

    def record(
        self,
        *,
        client: str,
        method: str,
        form: str,
        service: str,
        host: str,
        path: str,
        status: int,
        body_bytes: int,
        duration_s: float,
        outcome: str,
        cache: str = "",
        range_: str | None = None,
        ua: str | None = None,
    ) -> None:
        """Add one answer; ``path`` may carry a query, which is cut off here. At most 5 µs, never raises."""
        line = _Line(
            self._now(),
            client,
            method[:32],
            form,
            service,
            host[:_FIELD_LIMIT],
            bare_path(path),
            status,
            body_bytes,
            round(duration_s * 1000, 3),
            outcome,
            cache[:_FIELD_LIMIT],
            None if range_ is None else range_[:_FIELD_LIMIT],
            None if ua is None else ua[:_FIELD_LIMIT],
        )
        try:
            text = self._encode(line)
        except Exception:  # lone surrogates; json knows how to escape them
            text = b"\xff"
        if not text.isascii() or b"\x7f" in text:
            text = _escaped(line)
        self._add(text)

    def _add(self, text: bytes) -> None:
        self._lines.append(text)
        self._size_bytes += len(text)
        self._pass_on()

    def _pass_on(self) -> None:
        if self._size_bytes >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._arm()

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
        except RuntimeError:  # no loop: nobody would come back for the line
            self.flush()

    def _now(self) -> str:
        """RFC 3339 in UTC with milliseconds; the part down to the second is made once a second."""
        millis = int(self._wall_s() * 1000)
        second = millis // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{millis % 1000:03d}Z"


def bare_path(target: str) -> str:
    """``target`` without query, fragment and user information, bounded."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/") and "@" in path:
        scheme, found, rest = path.partition("://")
        authority, slash, tail = (rest if found else path).partition("/")
        path = f"{scheme}://" if found else ""
        path += authority.rpartition("@")[2] + slash + tail
    return path[:_PATH_LIMIT]


def _escaped(line: _Line) -> bytes:
    text = json.dumps(msgspec.structs.asdict(line), ensure_ascii=True, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii")
