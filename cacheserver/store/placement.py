"""Which volume an object belongs to: rendezvous hashing, so that adding a drive moves only its share."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

from cacheserver.store.volume import Volume


def preferred_order(volumes: Sequence[Volume], object_id: str) -> Sequence[Volume]:
    """Volumes, best first, weighted by capacity (weighted rendezvous hashing)."""
    if len(volumes) == 1:
        return volumes

    def score(volume: Volume) -> float:
        drawn = zlib.crc32(f"{volume.path}\n{object_id}".encode()) + 1
        return -volume.ledger.capacity_bytes / math.log(drawn / (2**32 + 2))

    return sorted(volumes, key=score, reverse=True)
