"""Readers of cold ranges: each range is dropped from the page cache, proved to be gone, and only then asked for.

A process of its own, beside the load generator that measures warm hits meanwhile, at a lower priority than that. Run as
``python -m bench.cold_reader`` with a job as JSON on standard input; it prints ``begun`` once every connection has had
a first answer that was compared with the truth byte for byte, and the result as JSON at its end.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.content import Truth
from bench.first_answer import compare_first
from bench.load_drivers import Connection, PlainDriver
from bench.page_cache import FilePages

_NICE = 10


@dataclass(frozen=True, slots=True)
class ColdJob:
    """What the readers do. ``targets`` and ``files`` go together: a path and the file that holds its bytes."""

    port: int
    authority: str
    targets: tuple[str, ...]
    files: tuple[str, ...]
    object_bytes: int
    range_bytes: int
    readers: int
    seconds: float
    stream: str
    core: int
    seed: int = 1


class ColdDriver(PlainDriver):
    """The load generator's loop, with every range cold at the moment at which it is asked for."""

    def __init__(self, job: ColdJob) -> None:
        self._files = [FilePages(Path(file)) for file in job.files]
        self._places: dict[bytes, tuple[FilePages, int]] = {}
        self._length = job.range_bytes
        self.proved = 0
        """Ranges of which not one page was in memory when they were asked for."""
        self.warm = 0
        truth = Truth(Path(job.stream))
        requests = self._requests(job)
        super().__init__(
            port=job.port,
            authority=job.authority,
            requests=requests,
            expected_status=b"206",
            expected_bytes=job.range_bytes,
            check_first=lambda sock, request: compare_first(sock, request, truth),
        )

    def _requests(self, job: ColdJob) -> Sequence[bytes]:
        """Every aligned range once, in random order, so that none is asked for twice at the same time."""
        for pages, target in zip(self._files, job.targets, strict=True):
            pages.settle()
            for start in range(0, job.object_bytes - job.range_bytes + 1, job.range_bytes):
                head = f"GET {target} HTTP/1.1\r\nHost: {job.authority}\r\n"
                head += f"Range: bytes={start}-{start + job.range_bytes - 1}\r\n\r\n"
                self._places[head.encode()] = (pages, start)
        requests = list(self._places)
        random.Random(job.seed).shuffle(requests)
        return requests

    def _send(self, connection: Connection) -> None:
        request = self._next_request()
        pages, start = self._places[request]
        pages.drop(start, start + self._length)
        if pages.resident(start, start + self._length):
            self.warm += 1
        else:
            self.proved += 1
        connection.sock.send(request)
        connection.sent_at = time.perf_counter()


def main() -> None:
    """Read a job from standard input, do it, print the result."""
    fields: dict[str, Any] = json.load(sys.stdin)
    for name in ("targets", "files"):
        fields[name] = tuple(fields[name])
    job = ColdJob(**fields)
    os.sched_setaffinity(0, {job.core})
    os.nice(_NICE)
    with ColdDriver(job) as driver:
        driver.open(job.readers)
        print("begun", flush=True)
        driver.run_until(time.perf_counter() + job.seconds)
        tally = driver.tally
    found = {"requests": tally.requests, "body_bytes": tally.body_bytes, "errors": tally.errors}
    print(json.dumps(found | {"first_fault": tally.first_fault, "proved_cold": driver.proved, "warm": driver.warm}))


if __name__ == "__main__":
    main()
