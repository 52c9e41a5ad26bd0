"""A node that tells what it does to the world outside: connections, names, files, processes, pickles.

Owns the environment that makes it do so, and reading what it noted. ``inside/sitecustomize.py`` is the other half.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_INSIDE = Path(__file__).parent / "inside"
_ROOT = Path(__file__).resolve().parents[2]
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class")
FILES = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")


@dataclass(frozen=True, slots=True)
class Watch:
    """What one node is watched for, and where it notes it."""

    file: Path
    events: Sequence[str]
    dns: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """The environment of the node."""
        return {
            "PYTHONPATH": f"{_INSIDE}:{_ROOT}",
            "WATCH_FILE": str(self.file),
            "WATCH_EVENTS": ",".join(self.events),
            "WATCH_DNS": json.dumps({host: [list(answer) for answer in answers] for host, answers in self.dns.items()}),
        }

    def notes(self, *events: str, since: int = 0) -> list[list[Any]]:
        """What was noted of these events, without their names, from line number ``since`` on."""
        lines = self.file.read_text().splitlines()[since:]
        return [note[1:] for note in map(json.loads, lines) if note[0] in events]

    def mark(self) -> int:
        """The number of the next line."""
        return len(self.file.read_text().splitlines())
