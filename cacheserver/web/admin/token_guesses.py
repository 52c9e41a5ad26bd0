"""How fast a client may guess the admin token: a few tries per address, then one a second, the rest unread.

Owns: the count of wrong tokens per address. A request that comes too soon is refused without its token being looked at,
else a guesser would learn by the answer's speed what the delay should hide.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.request.client_shares import client_of

BURST: Final = 10
"""Wrong tokens from one address before the next one has to wait."""
PER_S: Final = 1.0
"""Tries that an address gets back per second."""
MAX_ADDRESSES: Final = 1024


class Guesses:
    """Tries left by address; the address that was wrong longest ago is forgotten first."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._left = BoundedMemory[str, tuple[float, float]](MAX_ADDRESSES)
        self.wrong = 0
        """Wrong tokens since the start, from anywhere."""

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try a token; 0.0: now."""
        return max(0.0, (1.0 - self._tries(client_of(address))) / PER_S)

    def failed(self, address: str) -> None:
        """Note a wrong token from this address."""
        group = client_of(address)
        self.wrong += 1
        self._left.keep(group, (self._tries(group) - 1.0, self._monotonic_s()))

    def _tries(self, group: str) -> float:
        tries, since_s = self._left.get(group) or (float(BURST), 0.0)
        return min(float(BURST), tries + (self._monotonic_s() - since_s) * PER_S)
