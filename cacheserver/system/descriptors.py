"""How many file descriptors the node may use, and how many of them are for clients."""

from __future__ import annotations

import resource

_OWN = 256
"""Catalogues, logs, sources, listening sockets."""


def raise_limit() -> None:
    """Use what the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def for_clients(open_objects: int) -> int:
    """Connections that fit beside the open objects: each may cost two descriptors."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (soft - open_objects - _OWN) // 2)
