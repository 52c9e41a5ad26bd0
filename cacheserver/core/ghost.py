"""The ghost list: which units were evicted not long ago, as fingerprints in one flat array.

Owns nothing but the memory of evictions; knows no sizes and no queues. A fingerprint has 32 bits inside a bucket of
four, so a stranger is taken for a returning unit about once in 10^9 questions; the worst that follows is one unit
that starts in the main queue. The hash is BLAKE2b, equal in every process, so that runs can be repeated.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

_WAYS = 4
_MASK_32 = 0xFFFF_FFFF


class Ghost:
    """The last ``entries`` evicted keys, a few fewer where a bucket overflows; 11 to 21 bytes an entry."""

    __slots__ = ("_bucket_mask", "_now", "_table", "entries")

    def __init__(self, entries: int) -> None:
        buckets = 1 << max(0, (-(-entries // 3) - 1)).bit_length()
        self.entries = entries
        self._bucket_mask = buckets - 1
        self._table = array("Q", bytes(8 * _WAYS * buckets)) if entries else array("Q")
        self._now = 0

    def add(self, key: bytes) -> None:
        """Remember ``key``; forgets the oldest entry of a full bucket."""
        if not self.entries:
            return
        self._now = (self._now + 1) & _MASK_32
        first, fingerprint = self._where(key)
        table = self._table
        oldest, oldest_age = first, -1
        for place in range(first, first + _WAYS):
            entry = table[place]
            age = (self._now - (entry >> 32)) & _MASK_32 if entry else _MASK_32 + 1
            if entry and entry & _MASK_32 == fingerprint:
                oldest = place
                break
            if age > oldest_age:
                oldest, oldest_age = place, age
        table[oldest] = self._now << 32 | fingerprint

    def take(self, key: bytes, within: int) -> bool:
        """Whether ``key`` is among the last ``min(within, entries)`` evicted ones; if so it is forgotten."""
        if not self.entries:
            return False
        first, fingerprint = self._where(key)
        for place in range(first, first + _WAYS):
            entry = self._table[place]
            if entry and entry & _MASK_32 == fingerprint:
                self._table[place] = 0
                return (self._now - (entry >> 32)) & _MASK_32 < min(within, self.entries)
        return False

    def _where(self, key: bytes) -> tuple[int, int]:
        hashed = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        return ((hashed >> 32) & self._bucket_mask) * _WAYS, hashed & _MASK_32
