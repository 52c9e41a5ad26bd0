"""Pins on disk: one small JSON file in each volume's directory, all of them alike.

Owns: the format, and writing it whole or not at all. A drive that is lost or away takes no pin with it; ``pins_merge``
says what holds where files differ. The URLs in it may hold tokens: only the node's user can read it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cacheserver.core.errors import DiskError
from cacheserver.system.atomic_file import write_atomically

FILE_NAME: Final = "pins"
MOST_PINS: Final = 4096
_MOST_BYTES: Final = 128 << 20
_Bytes = Annotated[int, Meta(ge=0, le=1 << 62)]


class SavedPin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pin. ``volume`` and ``size_bytes`` are where its content was admitted and what it takes there whole."""

    url: str
    object_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    volume: str = ""
    """Empty: not admitted yet, nothing is kept for it."""
    size_bytes: _Bytes = 0
    changed: _Bytes = 0
    """Number of the change that made it; 0 in files of earlier versions."""


class EndedPin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a pin, kept so that a volume which was away does not bring the pin back."""

    object_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    changed: _Bytes


class SavedPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All pins of a node, oldest first; each change has a higher ``number``."""

    number: _Bytes = 0
    pins: Annotated[tuple[SavedPin, ...], Meta(max_length=MOST_PINS)] = ()
    ended: Annotated[tuple[EndedPin, ...], Meta(max_length=MOST_PINS)] = ()


def load_pins(directory: str) -> SavedPins:
    """The pins that a volume's directory holds; none where there is no file. Blocking.

    Raises DiskError where the file cannot be read or is damaged; a damaged one is renamed.
    """
    path = os.path.join(directory, FILE_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=SavedPins)
    except FileNotFoundError:
        return SavedPins()
    except OSError as exc:
        raise DiskError(f"cannot be read: {exc.strerror}", errno=exc.errno) from exc
    except ValueError as exc:
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}.damaged")
        raise DiskError(f"is damaged; it is kept as {FILE_NAME}.damaged") from exc


def save_pins(directories: tuple[str, ...], saved: SavedPins) -> None:
    """Write the pins to every directory (0600), synced. Blocking. Raises DiskError where not one of them takes it."""
    failure: OSError | None = None
    taken = 0
    for directory in directories:
        try:
            write_atomically(os.path.join(directory, FILE_NAME), msgspec.json.encode(saved), durable=True)
            taken += 1
        except OSError as exc:
            failure = exc
    if not taken:
        reason = "no volume is open" if failure is None else failure.strerror
        raise DiskError(f"pins could not be written down: {reason}", errno=None if failure is None else failure.errno)
