"""The access log's file: batches of lines written by a thread of its own.

Must not block the loop (a reader of our stderr may stop reading), and must not raise because of a disk.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from cacheserver.access_lines import AccessLogLines
from cacheserver.combined_lines import CombinedLines
from cacheserver.core.errors import ConfigError
from cacheserver.log import printable

_BACKLOG_BYTES: Final = 8 * 1024 * 1024
_STDERR: Final = 2


class AccessLog(AccessLogLines):
    """Writes answers to ``path`` (empty: stderr).

    Lines wait up to 0.2 s or 64 KiB. When the disk or the reader stands still for 8 MiB, further lines are dropped
    and counted in ``dropped``. Raises ConfigError when the file cannot be opened at the start.
    """

    def __init__(self, path: str = "", *, wall_s: Callable[[], float] = time.time) -> None:
        super().__init__(wall_s=wall_s)
        self.dropped = 0
        self._path = path
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

    def append(self, batch: bytes, lines: int) -> None:
        """Write lines that another process has made."""
        self._hand_over(batch, lines)

    def _hand_over(self, batch: bytes, lines: int) -> None:
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


class CombinedLog(CombinedLines, AccessLog):
    """Writes answers in nginx's combined form."""


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
