"""The truth: what every byte of every test object is.

Owns: the names and bytes of test objects. An object's path says which bytes it has (``/o/<number>-<length>.bin``), so
an origin, a client and a checker in different processes agree without talking. All objects are windows of one stream
of seeded random bytes, each shifted by a prime number, so that bytes of another object or another offset never match.
Must not know who serves or reads them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import random
import re
import struct
from pathlib import Path

MIB = 1 << 20
SHIFT_BYTES = 4099
MOST_OBJECTS = 4096
_PATH = re.compile(r"/o/(\d{1,4})-(\d{1,12})\.bin")


def object_path(number: int, length_bytes: int) -> str:
    """The path of one object; ``number`` in ``[0, MOST_OBJECTS)``."""
    return f"/o/{number}-{length_bytes}.bin"


def parse_path(path: str) -> tuple[int, int] | None:
    """``(number, length_bytes)`` of an object's path, or None for any other path."""
    match = _PATH.fullmatch(path)
    if match is None or int(match[1]) >= MOST_OBJECTS:
        return None
    return int(match[1]), int(match[2])


def write_stream(file: Path, *, seed: int, longest_bytes: int) -> None:
    """Write the stream from which objects of up to ``longest_bytes`` are cut."""
    generator = random.Random(seed)
    left = longest_bytes + MOST_OBJECTS * SHIFT_BYTES
    with file.open("wb") as out:
        while left > 0:
            out.write(generator.randbytes(min(left, MIB)))
            left -= MIB


class Truth:
    """Read access to the bytes of every object."""

    def __init__(self, stream: Path) -> None:
        with stream.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def longest_bytes(self) -> int:
        """Length of the longest object that can be cut from the stream."""
        return len(self._map) - MOST_OBJECTS * SHIFT_BYTES

    def read(self, number: int, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)`` of object ``number``."""
        shift = number * SHIFT_BYTES
        return self._map[shift + start : shift + stop]

    def manifest(self, number: int, length_bytes: int) -> bytes:
        """The piece-hash file of one object, with pieces of 1 MiB."""
        starts = range(0, length_bytes, MIB)
        raw = [hashlib.sha256(self.read(number, at, min(at + MIB, length_bytes))).digest() for at in starts]
        bound = hashlib.sha256(struct.pack("<IQI", 1, length_bytes, MIB) + b"".join(raw)).digest()
        file = {"MajorVersion": 1, "MinorVersion": 0, "HashOfHashes": base64.b64encode(bound).decode()}
        file |= {"ContentLength": length_bytes, "PieceSize": MIB, "Pieces": [base64.b64encode(h).decode() for h in raw]}
        return json.dumps(file, separators=(",", ":")).encode()

    def write_object(self, root: Path, number: int, length_bytes: int) -> str:
        """Write one object as a file below ``root``; the path under which a server of ``root`` finds it."""
        path = object_path(number, length_bytes)
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as out:
            for start in range(0, length_bytes, MIB):
                out.write(self.read(number, start, min(start + MIB, length_bytes)))
        return path
