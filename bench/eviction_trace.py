"""Byte hit ratio of the eviction policy against LRU and Belady on one synthetic trace; prints JSON.

The trace: requests for objects by Zipf's law (exponent 0.9) with log-normal sizes, and in its middle half every third
request is for an object that is never asked for again (a scan: an imaging run, a backup, a crawler). Fixed seed.
Belady evicts what is needed furthest in the future and sees all of it: a bound that nothing on line reaches, near
enough with whole objects, strictly where objects may stay in part.
Run: ``python -m bench.eviction_trace [--requests N]``.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from bisect import bisect_left
from collections import OrderedDict
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import accumulate

from cacheserver.core.eviction.s3fifo import S3Fifo

SEED = 20_240_229
OBJECTS = 20_000
ZIPF_EXPONENT = 0.9
SCAN_EVERY = 3
CAPACITY_SHARES = (0.02, 0.05, 0.1, 0.2)
TARGET_POINTS = 2.0

Trace = list[tuple[bytes, int]]


def _key(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def make_trace(requests: int, *, scan: bool) -> tuple[Trace, int]:
    """The trace as ``(key, size_bytes)`` and the bytes of all objects that are not part of the scan."""
    rng = random.Random(SEED)
    cumulated = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(OBJECTS)))
    sizes = [int(min(max(rng.lognormvariate(15.0, 1.5), 1 << 12), 1 << 25)) for _ in range(OBJECTS)]
    keys = [_key(number) for number in range(OBJECTS)]
    trace: Trace = []
    for position in range(requests):
        if scan and position % SCAN_EVERY == 0 and requests // 4 <= position < requests * 3 // 4:
            trace.append((_key(OBJECTS + position), rng.choice(sizes)))
            continue
        number = bisect_left(cumulated, rng.random() * cumulated[-1])
        trace.append((keys[number], sizes[number]))
    return trace, sum(sizes)


def hits_s3fifo(trace: Trace, capacity_bytes: int) -> int:
    """Bytes hit under the node's policy."""
    policy = S3Fifo(capacity_bytes=capacity_bytes)
    hit = 0
    for key, size in trace:
        if key in policy:
            hit += size
            policy.touch(key)
            continue
        missing = policy.used_bytes + size - capacity_bytes
        if missing > 0:
            policy.victims(missing, skip=lambda _key: False)
        policy.admit(key, size)
    return hit


def hits_lru(trace: Trace, capacity_bytes: int) -> int:
    """Bytes hit under least recently used."""
    cached: OrderedDict[bytes, int] = OrderedDict()
    used = hit = 0
    for key, size in trace:
        if key in cached:
            hit += size
            cached.move_to_end(key)
            continue
        while used + size > capacity_bytes and cached:
            used -= cached.popitem(last=False)[1]
        cached[key] = size
        used += size
    return hit


def hits_belady(trace: Trace, capacity_bytes: int, *, split: bool = False) -> int:
    """Bytes hit when the object needed furthest in the future leaves, the newcomer itself included.

    ``split``: an object may stay in part. Each byte is a unit of its own then, for which this order is the optimum
    (Belady, 1966), so that no policy that keeps whole objects hits more bytes. Without it the order is a heuristic, as
    objects differ in size.
    """
    upcoming = _next_uses(trace)
    cached: dict[bytes, tuple[int, int]] = {}
    heap: list[tuple[int, bytes]] = []
    used = hit = 0
    for position, (key, size) in enumerate(trace):
        held = cached[key][1] if key in cached else 0
        hit += held
        used += size - held
        cached[key] = (upcoming[position], size)
        heappush(heap, (-upcoming[position], key))
        while used > capacity_bytes:
            furthest, victim = heap[0]
            use, victim_bytes = cached.get(victim, (-1, 0))
            surplus = used - capacity_bytes
            if use == -furthest and split and victim_bytes > surplus:
                cached[victim] = (use, victim_bytes - surplus)
                used = capacity_bytes
                continue
            heappop(heap)
            if use == -furthest:
                used -= cached.pop(victim)[1]
    return hit


def _next_uses(trace: Trace) -> list[int]:
    """For each position of the trace that of the same key's next request; the trace's length for the last one."""
    never = len(trace)
    upcoming = [never] * len(trace)
    seen: dict[bytes, int] = {}
    for position in range(len(trace) - 1, -1, -1):
        key = trace[position][0]
        upcoming[position] = seen.get(key, never)
        seen[key] = position
    return upcoming


def compare(trace: Trace, capacity_bytes: int) -> dict[str, float]:
    """Byte hit ratios in percent, and the lead over LRU in points."""
    total = sum(size for _, size in trace)
    ratios = {
        "s3fifo": hits_s3fifo(trace, capacity_bytes) / total * 100,
        "lru": hits_lru(trace, capacity_bytes) / total * 100,
        "belady": hits_belady(trace, capacity_bytes) / total * 100,
        "belady_split": hits_belady(trace, capacity_bytes, split=True) / total * 100,
    }
    ratios["lead_over_lru_points"] = ratios["s3fifo"] - ratios["lru"]
    return {name: round(value, 2) for name, value in ratios.items()}


def main() -> None:
    """Run every capacity with and without the scan and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    requests = parser.parse_args().requests
    begun = time.perf_counter()
    results = {}
    for name, scan in (("with_scan", True), ("without_scan", False)):
        trace, working_set_bytes = make_trace(requests, scan=scan)
        results[name] = {
            f"capacity_{share:.0%}": compare(trace, int(working_set_bytes * share)) for share in CAPACITY_SHARES
        }
    lead = min(ratios["lead_over_lru_points"] for ratios in results["with_scan"].values())
    report = {
        "bench": "eviction_trace",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "requests": requests,
        "seed": SEED,
        "byte_hit_ratio_percent": results,
        "smallest_lead_with_scan_points": lead,
        "target_points": TARGET_POINTS,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(report))
    sys.exit(0 if lead >= TARGET_POINTS else 1)


if __name__ == "__main__":
    main()
