"""What a server under comparison is: how it is named, started, found and ended.

Owns: the shape that all kinds share. Their configurations are in ``bench.node``, ``bench.nginx`` and ``bench.peers``.
Must not measure.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import process
from bench.lab import Lab

NODE, STATIC, SLICE = "cacheserver", "nginx-static", "nginx-slice"


@dataclass(frozen=True, slots=True)
class Running:
    """A started server. ``suffix`` is put behind every path that is asked of it."""

    name: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path
    suffix: str = ""
    tls_port: int | None = None
    admin_port: int | None = None
    store: Path | None = None
    """The directory of its cache, when that is on disk."""

    def pids(self) -> list[int]:
        """All processes of this server."""
        return process.tree(self.popen.pid)


Starter = Callable[[Lab, int], Running]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server. ``start`` takes the laboratory and the origin's port; ``caches`` False: no origin is used."""

    name: str
    start: Starter
    why_missing: Callable[[], str | None]
    """None when it can run here, else one line that says what is missing."""
    version: Callable[[], str]
    notes: str
    caches: bool = True


@contextlib.contextmanager
def running(kind: Kind, lab: Lab, origin_port: int) -> Iterator[Running]:
    """Run one server on the server's core until the end of the block."""
    started = kind.start(lab, origin_port)
    try:
        yield started
    finally:
        process.stop(started.popen)


def find_program(name: str) -> str | None:
    """Path of a program, the directories of system programs included."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def missing_program(name: str) -> Callable[[], str | None]:
    """A ``why_missing`` for a program."""
    return lambda: None if find_program(name) else f"{name} is not installed"


def program_version(name: str, *arguments: str) -> str:
    """First line that the program prints about its version."""
    done = subprocess.run([find_program(name) or name, *arguments], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"
