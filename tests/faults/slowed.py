"""The node's own command on a disk that is slow now and then: ``python -m tests.faults.slowed serve …``.

FAULTS_SLOW="SEED:SHARE:MOST_S" makes that share of the disk calls of other threads than the event loop's wait up to so
many seconds first. FAULTS_FSIZE is the largest file that the process may write, in bytes. A call on a closed descriptor
is logged as ``bad_descriptor``: nobody may work on an object that nobody holds.

Owns the waits. Must not change what a call does.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

_CALLS = ("open", "ftruncate", "pwrite", "pread", "stat", "unlink", "rename", "fdatasync")


def _slow(real: Callable[..., Any], rng: random.Random, share: float, most_s: float) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and rng.random() < share:
            time.sleep(rng.random() * most_s)
        try:
            return real(*arguments, **options)
        except OSError as exc:
            if exc.errno == errno.EBADF:
                calls = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_stack(limit=7)[:-1]]
                line = json.dumps({"event": "bad_descriptor", "call": real.__name__, "from": calls})
                os.write(2, f"{line}\n".encode())
            raise

    return call


def main() -> None:
    """Run the command."""
    if limit := int(os.environ.get("FAULTS_FSIZE", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    seed, share, most_s = os.environ.get("FAULTS_SLOW", "0:0:0").split(":")
    rng = random.Random(int(seed))
    for name in _CALLS:
        setattr(os, name, _slow(getattr(os, name), rng, float(share), float(most_s)))
    from cacheserver.cli.main import main as run
    from cacheserver.store.object.file import ObjectFile

    ObjectFile.erase = _slow(ObjectFile.erase, rng, float(share), float(most_s))  # type: ignore[method-assign]
    run()


if __name__ == "__main__":
    main()
