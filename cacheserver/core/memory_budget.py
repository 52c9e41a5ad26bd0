"""Bytes of bodies in the node's memory: what is collected, held back or remembered counts here until it is let go.

Owns: the bound in all, and how much of it one client may have. Pure; who takes a lease ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

_SHARES: Final = 4
"""One client has half of it at the most, and a quarter once half is taken."""


class Use(Enum):
    """What memory is for; the value is the word in metrics."""

    COLLECTED = "collected"
    """Answers that name no length, until their clients have got them."""
    HELD_BACK = "held_back"
    """Pieces of passed content, until they are right and have gone."""
    REFUSALS = "refusals"
    MANIFESTS = "manifests"


class MemoryBudget:
    """All of it. ``weight`` says as how many clients an address counts."""

    def __init__(self, limit_bytes: int, *, weight: Callable[[str], int] = lambda _client: 1) -> None:
        self.limit_bytes = limit_bytes
        self._weight = weight
        self._held = dict.fromkeys(Use, 0)
        self._by_client: dict[str, int] = {}
        self._watched: dict[Use, Callable[[], int]] = {}

    def lease(self, use: Use, client: str) -> Lease:
        """Nothing yet, of this client's share; close it."""
        return Lease(self, use, client)

    def watch(self, use: Use, held_bytes: Callable[[], int]) -> None:
        """Show a memory that has a bound of its own beside the leases."""
        self._watched[use] = held_bytes

    @property
    def held_bytes(self) -> int:
        """What all leases hold."""
        return sum(self._held.values())

    def rows(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Bytes by use."""
        for use in Use:
            yield (use.value,), self._watched[use]() if use in self._watched else self._held[use]

    def take(self, use: Use, client: str, count_bytes: int) -> bool:
        """Whether there was room for more; only then it is taken."""
        used, own = self.held_bytes, self._by_client.get(client, 0)
        share = self.limit_bytes // _SHARES * self._weight(client)
        if used + count_bytes > self.limit_bytes:
            return False
        if used + count_bytes > self.limit_bytes // 2 and own + count_bytes > share:
            return False
        self._held[use] += count_bytes
        self._by_client[client] = own + count_bytes
        return True

    def give_back(self, use: Use, client: str, count_bytes: int) -> None:
        """So much less is held."""
        self._held[use] -= count_bytes
        left = self._by_client.get(client, 0) - count_bytes
        if left:
            self._by_client[client] = left
        else:
            self._by_client.pop(client, None)


class Lease:
    """What one answer holds; as a context it ends with it."""

    __slots__ = ("_budget", "_client", "_use", "held_bytes")

    def __init__(self, budget: MemoryBudget, use: Use, client: str) -> None:
        self._budget = budget
        self._use = use
        self._client = client
        self.held_bytes = 0

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """End it."""
        self.close()

    def grow(self, count_bytes: int) -> bool:
        """Whether there was room for so much more; nothing is taken otherwise."""
        if not self._budget.take(self._use, self._client, count_bytes):
            return False
        self.held_bytes += count_bytes
        return True

    def close(self) -> None:
        """All of it is let go; idempotent."""
        held, self.held_bytes = self.held_bytes, 0
        if held:
            self._budget.give_back(self._use, self._client, held)
