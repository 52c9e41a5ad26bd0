"""Commands that change the same files take turns.

Owns: the lock, which is on the folder of the files, and how long it is waited for. Must not change a file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.logs.events import printable
from cacheserver.system.regular_file import folder_held

LOCK_S: Final = 10.0


@contextmanager
def changing(path: str) -> Iterator[None]:
    """Read and replace the file at ``path``, and others beside it, while no other command does.

    Raises ConfigError when one does for too long; OSError.
    """
    folder = os.path.dirname(os.path.realpath(path))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder_held(folder, within_s=LOCK_S))
        except BlockingIOError as exc:
            raise ConfigError("another command is changing it", where=printable(path, 300)) from exc
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, path) from exc
        yield
