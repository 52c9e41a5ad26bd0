"""Body bytes on their way to an object file and through the piece's running digest: blocking, in the store's threads.

Owns: the buffer of each thread. Must not know of pieces, space or sources.
"""

from __future__ import annotations

import hashlib
import socket
import threading

from cacheserver.store.object.file import ObjectFile

BUFFER_BYTES = 1 << 18
"""Stays in a core's cache between the three that touch it; larger ones are no faster."""


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.view = memoryview(bytearray(BUFFER_BYTES))


_buffers = _Buffers()


def write_and_hash(file: ObjectFile, offset: int, data: bytes | memoryview, digest: hashlib._Hash) -> None:
    """Write bytes at ``offset``. DiskError."""
    file.write_at(offset, data)
    digest.update(data)


def receive_and_hash(file: ObjectFile, offset: int, sock: socket.socket, most: int, digest: hashlib._Hash) -> int:
    """Receive, write at ``offset`` and hash what is there, ``most`` bytes at the most; how many, 0 for none yet.

    ``sock`` does not block. DiskError; EOFError or OSError of the connection, once all that came before is written.
    """
    view, got = _buffers.view, 0
    while got < most:
        try:
            count = sock.recv_into(view[: most - got])
        except BlockingIOError:
            return got
        except OSError:
            if got:
                return got
            raise
        if not count:
            if got:
                return got
            raise EOFError
        write_and_hash(file, offset + got, view[:count], digest)
        got += count
    return got
