"""Bytes under the name of a file, for libraries that read nothing else: OpenSSL's keys and certificates.

Owns: a file in memory that no other process can name, for as long as it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named_in_memory(data: bytes) -> Iterator[str]:
    """A path at which this process reads ``data``. Raises OSError."""
    with open(os.memfd_create("cacheserver"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
