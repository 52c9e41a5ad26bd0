"""Lines of the logs on their way to a file or to stderr, written by a thread of their own.

Owns: the order of lines, and that one never begins inside another: everything that goes to one descriptor goes through
one writer. Must not block its callers (a reader of our stderr may stop reading), and must not raise because of a disk.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.logs.events import printable

_BACKLOG_BYTES: Final = 8 * 1024 * 1024
_STDERR: Final = 2


class LineWriter:
    """Writes to ``path`` (empty: stderr).

    When the disk or the reader stands still for 8 MiB, further lines are dropped and counted in ``dropped``, as are
    those that a disk or a reader refuses. Raises ConfigError when the file cannot be opened at the start.
    """

    def __init__(self, path: str = "") -> None:
        self.dropped = 0
        self._path = path
        self._closed = self._cut = False
        try:
            self._fd = _open(path)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "bad path"
            raise ConfigError(f"cannot open {printable(path, 200)}: {reason}", key="log.access_file") from exc
        self._backlog_bytes = 0
        self._lock = threading.RLock()  # a finaliser that logs may run while it is held
        self._work: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="line-writer", daemon=True)
        self._thread.start()

    def put(self, batch: bytes, lines: int) -> None:
        """Write ``lines`` whole lines, each with its end; from any thread, never blocks."""
        with self._lock:
            fits = not self._closed and self._backlog_bytes + len(batch) <= _BACKLOG_BYTES
            if fits:
                self._backlog_bytes += len(batch)
                self._work.put(batch)
            else:
                self.dropped += lines

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; lines put before go to the old one."""
        self._work.put("reopen")

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left and stop; gives up after ``timeout_s``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._work.put("stop")
        self._thread.join(timeout_s)

    # -- the writer's thread ------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while (work := self._work.get()) != "stop":
            if isinstance(work, str):
                self._swap()
                continue
            lost_bytes = self._write(work)
            with self._lock:
                self._backlog_bytes -= len(work)
                self.dropped += work.count(b"\n", len(work) - lost_bytes)
        if self._fd != _STDERR:
            os.close(self._fd)

    def _write(self, batch: bytes) -> int:
        """Bytes that were refused; a line that was cut by that gets its end before the next one begins."""
        data = b"\n" + batch if self._cut else batch
        taken = _written(self._fd, data)
        if taken:
            self._cut = data[taken - 1 : taken] != b"\n"
        return min(len(batch), len(data) - taken)

    def _swap(self) -> None:
        try:
            fresh = _open(self._path)
        except (OSError, ValueError):
            return  # the old file is better than none
        if self._fd != _STDERR:
            os.close(self._fd)
        self._fd, self._cut = fresh, False


def _open(path: str) -> int:
    """Not for long: a FIFO that nobody reads is ENXIO, where opening it would wait for a reader."""
    if not path:
        return _STDERR
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _written(fd: int, data: bytes) -> int:
    """How many bytes the descriptor took before it failed."""
    taken, view = 0, memoryview(data)
    while taken < len(data):
        try:
            taken += os.write(fd, view[taken:])
        except BlockingIOError:
            time.sleep(0.01)  # a non-blocking stderr; this is our own thread
        except OSError:
            break
    return taken
