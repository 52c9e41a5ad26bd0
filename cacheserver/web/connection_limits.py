"""Tells the operator of connections that were one too many: each is counted, one event a minute for each client.

Owns: what is said, and how often. Must not decide which connection goes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.request.client_shares import client_of
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter

_log = get_logger(__name__)
_TELL_AGAIN_S: Final = 60.0
_CLIENTS: Final = 256
CONTENT: Final = {
    "client": "many clients behind one address: add its network to [[fairness.shared]]; else raise "
    "server.connections_per_client",
    "idle": "its oldest idle connection was closed for the new one; see limit=client",
    "all": "raise server.max_connections and the descriptor limit",
}
ADMIN: Final = {
    "client": "have this client use fewer connections of the admin listener",
    "idle": "the oldest idle connection was closed for the new one; see who opens so many",
    "all": "every connection of the admin listener has a request under way; see who asks so much",
}
"""What to do, by limit."""


class LimitReport:
    """``remedies`` is one of the tables above."""

    def __init__(self, meter: Meter, clock: Clock, remedies: Mapping[str, str]) -> None:
        self._meter, self._clock, self._remedies = meter, clock, remedies
        self._told = BoundedMemory[tuple[str, str], bool](_CLIENTS)

    def limited(self, limit: str, address: str) -> None:
        """Report that ``limit`` (see ``ConnectionShares``) was reached by a connection from ``address``."""
        self._meter.connection_refused(limit)
        key, now_s = (limit, client_of(address) if limit != "all" else ""), self._clock.monotonic_s()
        if self._told.get(key, now_s):
            return
        self._told.keep(key, True, now_s + _TELL_AGAIN_S)
        facts = {"limit": limit, "client": address, "remedy": self._remedies[limit]}
        event(_log, "connections_limited", severity=logging.WARNING, **facts)
