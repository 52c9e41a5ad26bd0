"""How many file descriptors the node may use, and how they are shared by open objects and clients."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

OWN: Final = 256
"""Catalogues, logs, sources, listening sockets."""
_FEW_CLIENTS: Final = 64
_LEAST: Final = 16


@dataclass(frozen=True, slots=True)
class Shares:
    """How many objects may be open and how many clients connected; ``short``: fewer than was asked for."""

    open_objects: int
    connections: int
    short: bool


def raise_limit() -> None:
    """Use what the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """Descriptors that this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def shares(limit: int, open_objects: int, connections: int) -> Shares:
    """What a limit leaves for each; ``connections`` 0: as many as fit. A connection may cost two descriptors."""
    room = max(4 * _LEAST, limit - OWN)
    if room >= open_objects + 2 * max(connections, _FEW_CLIENTS):
        return Shares(open_objects, connections or (room - open_objects) // 2, short=False)
    objects = min(open_objects, max(_LEAST, room // 2))
    clients = (room - objects) // 2
    return Shares(objects, min(connections or clients, clients), short=True)
