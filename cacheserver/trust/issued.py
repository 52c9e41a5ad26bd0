"""When the newest catalogue that was taken from each file was issued, kept across restarts.

Owns: the file in the cache directory that remembers it. One that is missing or damaged remembers nothing. Must not
judge catalogues.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from cacheserver.system.atomic_file import write_atomically

FILE_NAME = "issued"
_MOST_BYTES = 1 << 20


class Issued:
    """The memory in one cache directory: path of a catalogue → its time of issue. Every call is blocking."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE_NAME)

    def load(self) -> dict[str, str]:
        """What is remembered; never raises."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                return msgspec.json.decode(file.read(_MOST_BYTES), type=dict[str, str])
        except (OSError, ValueError):
            return {}

    def note(self, path: str, issued: str) -> None:
        """A catalogue was taken; a later one that was taken before stays the newest."""
        known = self.load()
        if known.get(path, "") < issued:
            with contextlib.suppress(OSError):  # a drive that does not take it costs the protection, not the start
                self._save(known | {path: issued})

    def forget(self, path: str) -> None:
        """Let an older catalogue be taken from this file. Raises OSError where it cannot be noted."""
        known = self.load()
        if known.pop(path, None) is not None:
            self._save(known)

    def _save(self, known: dict[str, str]) -> None:
        write_atomically(self._path, msgspec.json.encode(known), durable=True, give=True)  # root may write it
