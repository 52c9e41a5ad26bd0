"""Which volume an object belongs to: rendezvous hashing, so that adding a drive moves only its share.

The draws of the volumes must be independent: a linear code such as CRC-32 gave one of four equal drives half of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from cacheserver.store.volume import Volume


def preferred_order(volumes: Sequence[Volume], object_id: str) -> Sequence[Volume]:
    """Volumes, best first, weighted by capacity (weighted rendezvous hashing)."""
    if len(volumes) == 1:
        return volumes

    def score(volume: Volume) -> float:
        drawn = int.from_bytes(blake2b(f"{volume.path}\n{object_id}".encode(), digest_size=6).digest(), "big") + 1
        return -volume.ledger.capacity_bytes / math.log(drawn / (2**48 + 2))

    return sorted(volumes, key=score, reverse=True)
