"""Small real file systems that a test may fill up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@cache
def why_no_tmpfs() -> str:
    """Why none can be mounted here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting a tmpfs needs root"
    with TemporaryDirectory() as place:
        mount = _mount(Path(place), "1m")
        if mount.returncode != 0:
            return f"cannot mount a tmpfs here: {mount.stderr.strip()}"
        subprocess.run(["umount", "-l", place], check=True)
    return ""


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size (as mount writes it) at a new directory."""
    place.mkdir(parents=True)
    _mount(place, size).check_returncode()
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _mount(place: Path, size: str) -> subprocess.CompletedProcess[str]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def filled_up(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(65_536)):
                pass
        except OSError:
            pass
    return filler
