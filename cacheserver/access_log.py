"""The access log: one line per answer (JSON here), collected on the event loop and written by a thread of its own.

Must not block the loop (a reader of our stderr may stop reading), must not raise because of a record or a disk, and
never writes a query string or user information (tokens live there).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cacheserver.core.errors import ConfigError
from cacheserver.log import printable

_FLUSH_BYTES: Final = 64 * 1024
_FLUSH_S: Final = 0.2
_BACKLOG_BYTES: Final = 8 * 1024 * 1024
_PATH_LIMIT: Final = 1024
_FIELD_LIMIT: Final = 256
_STDERR: Final = 2


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


class AccessLog:
    """Writes answers to ``path`` (empty: stderr).

    Lines wait up to 0.2 s or 64 KiB. When the disk or the reader stands still for 8 MiB, further lines are dropped
    and counted in ``dropped``. Raises ConfigError when the file cannot be opened at the start.
    """

    def __init__(self, path: str = "", *, wall_s: Callable[[], float] = time.time) -> None:
        self.dropped = 0
        self._path = path
        self._wall_s = wall_s
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._second_text = ""
        self._milli = -1
        self._milli_text = b""
        self._closed = False
        try:
            self._fd = _open(path)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "bad path"
            raise ConfigError(f"cannot open {printable(path, 200)}: {reason}", key="log.access_file") from exc
        self._backlog_bytes = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

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
        self._add(
            b'{"ts":"%b%b%d,"bytes":%d,"duration_ms":%.3f%b%b%b'
            % (
                self._now_bytes(),
                template.head,
                status,
                body_bytes,
                duration_s * 1000,
                template.middle,
                b"null" if range_ is None else b'"bytes=%b"' % range_,
                template.tail,
            )
        )

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
        if self._size_bytes >= _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._arm()

    def flush(self) -> None:
        """Hand the collected lines to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        batch, lines = b"\n".join(self._lines) + b"\n", len(self._lines)
        self._lines.clear()
        self._size_bytes = 0
        with self._lock:
            fits = not self._closed and self._backlog_bytes + len(batch) <= _BACKLOG_BYTES
            self._backlog_bytes += len(batch) if fits else 0
        if fits:
            self._work.put(batch)
        else:
            self.dropped += lines

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; lines recorded before go to the old one."""
        self.flush()
        self._work.put("reopen")

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left and stop; gives up after ``timeout_s`` when nobody takes the bytes."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._work.put("stop")
        self._thread.join(timeout_s)

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

    def _now_bytes(self) -> bytes:
        millis = int(self._wall_s() * 1000)
        if millis != self._milli:
            self._milli = millis
            self._milli_text = self._now().encode("ascii")
        return self._milli_text

    # -- the writer's thread ------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while (work := self._work.get()) != "stop":
            if isinstance(work, str):
                self._swap()
                continue
            _write(self._fd, work)
            with self._lock:
                self._backlog_bytes -= len(work)
        if self._fd != _STDERR:
            os.close(self._fd)

    def _swap(self) -> None:
        try:
            fresh = _open(self._path)
        except (OSError, ValueError):
            return  # the old file is better than none
        if self._fd != _STDERR:
            os.close(self._fd)
        self._fd = fresh


def _open(path: str) -> int:
    if not path:
        return _STDERR
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _write(fd: int, batch: bytes) -> None:
    view = memoryview(batch)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.01)  # a non-blocking stderr; this is our own thread
        except OSError:
            return


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
