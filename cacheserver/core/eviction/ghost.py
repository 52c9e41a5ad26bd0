"""The ghost list: which units were evicted not long ago, as fingerprints in one flat array.

Owns nothing but the memory of evictions, each with the bytes that it freed; knows no queues. A fingerprint has 32 bits
inside a bucket of four, so a stranger is taken for a returning unit about once in 10^9 questions; the worst that
follows is one unit that starts in the main queue. The hash is BLAKE2b, equal in every process, so that runs can be
repeated.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

_WAYS = 4
_MASK_32 = 0xFFFF_FFFF
_PAGE_BYTES = 4096
"""What sizes are remembered in, rounded up."""


class Ghost:
    """The last ``entries`` evicted keys, a few fewer where a bucket overflows; 16 to 32 bytes an entry."""

    def __init__(self, entries: int) -> None:
        buckets = 1 << max(0, (-(-entries // 3) - 1)).bit_length()
        self.entries = entries
        self._bucket_mask = buckets - 1
        self._table = array("Q", bytes(8 * _WAYS * buckets)) if entries else array("Q")
        self._pages = array("I", bytes(4 * len(self._table)))
        self._now = 0

    def add(self, key: bytes, size_bytes: int) -> None:
        """Remember ``key`` and the bytes that its unit had; forgets the oldest entry of a full bucket."""
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
        self._pages[oldest] = min(-(-size_bytes // _PAGE_BYTES), _MASK_32)

    def take(self, key: bytes) -> tuple[int, int] | None:
        """How many evictions came after that of ``key``, and its bytes to the next 4 KiB; it is forgotten by asking.

        None where it is not among the last ``entries`` evicted ones.
        """
        if not (self.entries and self._now):  # nothing was evicted yet: an index of a million units is loaded so
            return None
        first, fingerprint = self._where(key)
        for place in range(first, first + _WAYS):
            entry = self._table[place]
            if entry and entry & _MASK_32 == fingerprint:
                self._table[place] = 0
                since = (self._now - (entry >> 32)) & _MASK_32
                return (since, self._pages[place] * _PAGE_BYTES) if since < self.entries else None
        return None

    def _where(self, key: bytes) -> tuple[int, int]:
        hashed = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        return ((hashed >> 32) & self._bucket_mask) * _WAYS, hashed & _MASK_32
