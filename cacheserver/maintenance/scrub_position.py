"""How far the scrubber has come on one volume, kept in one small file there across restarts.

Owns: the file's format. A file that is missing, damaged or not ours means the beginning: nothing is lost but time.
"""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

import msgspec
from msgspec import Meta

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
    path = os.path.join(directory, FILE_NAME)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        with open(os.open(f"{path}.new", flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(position))
        os.replace(f"{path}.new", path)
