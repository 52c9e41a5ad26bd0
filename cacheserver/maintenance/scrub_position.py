"""How far the scrubber has come on one volume, kept in one small file there across restarts.

Owns: the file's format. A file that is missing, damaged or not ours means the beginning: nothing is lost but time.
"""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

import msgspec
from msgspec import Meta

from cacheserver.system.atomic_file import write_atomically

FILE_NAME = "scrub"
_MOST_BYTES = 4096
_Number = Annotated[float, Meta(ge=0, le=1e15)]


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the order of object ids, and when the pass over them began. Times are Unix seconds, 0: never."""

    object_id: Annotated[str, Meta(pattern="^[0-9a-f]{0,32}$")] = ""
    """The first object that is not done; everything before it is."""
    next_piece: Annotated[int, Meta(ge=0)] = 0
    """The first piece of it that is not done."""
    done_bytes: Annotated[int, Meta(ge=0)] = 0
    """Read in this pass so far."""
    started_s: _Number = 0.0
    completed_s: _Number = 0.0
    """End of the last whole pass."""


def load_position(directory: str) -> Position:
    """The position kept in a volume's directory, or the beginning. Blocking; never raises."""
    try:
        fd = os.open(os.path.join(directory, FILE_NAME), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Position)
    except (OSError, ValueError):
        return Position()


def save_position(directory: str, position: Position) -> None:
    """Keep a position (0600). Blocking; a drive that does not take it costs a repetition, and raises nothing."""
    with contextlib.suppress(OSError):
        write_atomically(os.path.join(directory, FILE_NAME), msgspec.json.encode(position))
