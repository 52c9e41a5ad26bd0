"""Which connections a listener has, and which one it refuses or ends when a client or all clients have too many.

Owns: the count of all sockets of a listener from accept on, by client. A client at its limit loses its oldest
connection without a request under way before a new one is refused, so that idle connections keep nobody out. Must not
parse or send anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from cacheserver.core.request.client_shares import SharedNetworks, client_of

_LOOKED_AT: Final = 64
"""Most connections that are looked at for one that can end."""
LEAST_SHARE: Final = 64


class Held(Protocol):
    """One accepted socket."""

    @property
    def waits(self) -> bool:
        """Whether it has no request under way."""

    def cut(self) -> None:
        """End it at once."""


def share_of(per_client: int, most: int) -> int:
    """Connections of one client: as set, else a quarter of all, and not less than ``LEAST_SHARE``."""
    return per_client or max(LEAST_SHARE, most // 4)


class ConnectionShares:
    """The sockets of one listener. ``on_limit`` is told the limit, ``client``, ``all`` or ``idle``, and the address.

    ``idle``: an idle connection was ended for the new one. ``frees``: so too where all clients together have too many.
    """

    def __init__(
        self, *, most: int, per_client: int, shared: SharedNetworks, on_limit: Callable[[str, str], None], frees: bool
    ) -> None:
        self._most = most
        self._frees = frees
        self._on_limit = on_limit
        self._all: dict[Held, str] = {}
        self._by_client: dict[str, dict[Held, None]] = {}
        self.reconfigure(per_client=per_client, shared=shared)

    def reconfigure(self, *, per_client: int, shared: SharedNetworks) -> None:
        """Use changed limits for new connections."""
        self._share, self._shared = share_of(per_client, self._most), shared

    def __len__(self) -> int:
        return len(self._all)

    def take(self, held: Held, address: str) -> bool:
        """Count a socket, if it is not counted yet; False, and nothing is counted, when it is one too many."""
        if held in self._all:
            return True
        client = client_of(address)
        own = self._by_client.get(client, {})
        if len(own) >= self._share * self._shared.clients_at(address):
            limit, room = "client", self._end_one_of(own)
        elif len(self._all) >= self._most:
            limit, room = "all", self._frees and self._end_one_of(self._all)
        else:
            limit, room = "", True
        if limit:
            self._on_limit("idle" if room else limit, address)
        if room:
            self._all[held] = client
            self._by_client.setdefault(client, {})[held] = None
        return room

    def give_back(self, held: Held) -> None:
        """A socket is closed, or was never counted."""
        client = self._all.pop(held, None)
        if client is None:
            return
        own = self._by_client[client]
        del own[held]
        if not own:
            del self._by_client[client]

    def _end_one_of(self, connections: dict[Held, None] | dict[Held, str]) -> bool:
        """End the oldest of ``connections`` that waits. Those that do not are looked at later next time."""
        for _ in range(min(_LOOKED_AT, len(connections))):
            held = next(iter(connections))
            if held.waits:
                self.give_back(held)
                held.cut()
                return True
            connections[held] = connections.pop(held)  # type: ignore[assignment]
        return False
