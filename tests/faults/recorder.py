"""Every disk call of a store that changes something, written down as a trace.

Calls through ``os`` are seen one by one. SQLite's own are seen as what they did to its files by the next call: pages
that have changed are writes. Its log is synced before the database changes and the database after, as it does itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.faults.disk_layer import Call, DiskLayer
from tests.faults.trace import BLOCK, Op

_DATABASE: Final = "catalogue/cache.db"
_LOG: Final = "catalogue/cache.db-wal"
_UNSEEN: Final = (_LOG, _DATABASE, "recency.new", "recency", "clean.new", "clean")
"""Files that are written past ``os``."""
_HEADER_BYTES: Final = 32
"""Of SQLite's log; another one with each log that is begun."""


class Recorder:
    """The rule of a disk layer on which nothing fails; ``trace`` grows."""

    def __init__(self, volume: Path) -> None:
        self.trace: list[Op] = []
        self._volume = volume
        self._seen: dict[str, bytes] = {}
        self.layer = DiskLayer(volume)
        self.layer.rule = self._note

    def end(self) -> list[Op]:
        """The whole trace, once the store has stopped."""
        self._look()
        return self.trace

    def _note(self, call: Call) -> int:
        if call.writes or call.name in ("fsync", "fdatasync"):
            self._look()
            self.trace += self._ops(call)
        return 0

    def _ops(self, call: Call) -> list[Op]:
        path, arguments = call.path, call.arguments
        if path in _UNSEEN and call.name not in ("rename", "replace", "unlink", "fsync"):
            return []
        if call.name == "open":
            return [Op("create", path)]
        if call.name == "pwrite":
            return [Op("write", path, int(arguments[2]), data=bytes(arguments[1]))]
        if call.name == "ftruncate":
            return [Op("truncate", path, int(arguments[1]))]
        if call.name == "punch":
            return [Op("punch", path, int(arguments[1]), size=int(arguments[2]))]
        if call.name in ("rename", "replace"):
            target = os.path.relpath(os.fspath(arguments[1]), self._volume)
            if path in self._seen:
                self._seen[target] = self._seen.pop(path)
            return [Op("rename", path, target=target)]
        if call.name == "unlink":
            self._seen.pop(path, None)
            return [Op("unlink", path)]
        return [Op("sync", path)] if call.name in ("fsync", "fdatasync") else []

    def _look(self) -> None:
        """Note what has become of the files that are written past ``os``.

        A log that is gone goes last: SQLite removes it once the database that it was for is synced.
        """
        now = {path: _content(self._volume / path) for path in _UNSEEN}
        for path, data in now.items():
            if data is not None:
                self._note_content(path, data)
        for path, data in now.items():
            if data is None and self._seen.pop(path, None) is not None:
                self.trace.append(Op("unlink", path))

    def _note_content(self, path: str, now: bytes) -> None:
        before = self._seen.get(path)
        if now == before:
            return
        if path == _LOG and before:
            assert now[:_HEADER_BYTES] == before[:_HEADER_BYTES], "a log was begun anew unseen"
        self._seen[path] = now
        changes = [] if before is not None else [Op("create", path)]
        changes += _changes(path, before or b"", now)
        if path == _DATABASE:
            changes = [Op("sync", _LOG), *changes, Op("sync", path)]
        self.trace += changes


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _changes(path: str, before: bytes, now: bytes) -> list[Op]:
    ops = [Op("truncate", path, len(now))] if len(now) < len(before) else []
    for start in range(0, len(now), BLOCK):
        block = now[start : start + BLOCK]
        if block != before[start : start + BLOCK]:
            ops.append(Op("write", path, start, data=block))
    return ops
