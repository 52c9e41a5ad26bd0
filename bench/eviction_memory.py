"""Memory and speed of the eviction policy with a million units; prints JSON.

Memory is the growth of the resident set, so that allocator rounding counts; a warm-up with churn (every unit evicted
and admitted once) comes first, because hash tables are at their largest after churn. A plain dict of key to slot is
measured the same way for comparison. Run: ``python -m bench.eviction_memory [--units N]``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from hashlib import blake2b
from pathlib import Path

from cacheserver.core.eviction.s3fifo import S3Fifo

LIMIT_BYTES_PER_UNIT = 160


def resident_bytes() -> int:
    """Resident set of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def unit_key(number: int) -> bytes:
    """A key as the store makes them: 16 bytes of a digest, every fourth with an extent number."""
    digest = blake2b(number.to_bytes(8, "little"), digest_size=16).digest()
    return digest + (number & 0xFFFF).to_bytes(2, "little") if number % 4 == 0 else digest


def fill_and_churn(units: int) -> tuple[S3Fifo, float]:
    """A policy with ``units`` units after as many evictions; also seconds per admit-and-evict."""
    policy = S3Fifo(capacity_bytes=units, ghost_entries=units)
    for number in range(units):
        policy.admit(unit_key(number), 1)
    begun = time.perf_counter()
    for number in range(units, 2 * units):
        policy.victims(1, skip=lambda _key: False)
        policy.admit(unit_key(number), 1)
    return policy, (time.perf_counter() - begun) / units


def touch_ns(policy: S3Fifo, units: int) -> float:
    """Nanoseconds of one touch of a known unit, key objects made beforehand."""
    keys = [bytes(bytearray(unit_key(number))) for number in range(2 * units - 20_000, 2 * units)]
    begun = time.perf_counter()
    for key in keys:
        policy.touch(key)
    return (time.perf_counter() - begun) / len(keys) * 1e9


def longest_admit_ms(units: int) -> float:
    """Longest single admit while the table grows from empty."""
    policy = S3Fifo(capacity_bytes=units, ghost_entries=units)
    longest = 0.0
    for number in range(units):
        key = unit_key(number)
        begun = time.perf_counter()
        policy.admit(key, 1)
        longest = max(longest, time.perf_counter() - begun)
    return longest * 1000


def dict_bytes_per_unit(units: int) -> float:
    """The same churn through a plain dict of key to slot number, keys and numbers included."""
    before = resident_bytes()
    index = {unit_key(number): number for number in range(units)}
    for number in range(units, 2 * units):
        del index[unit_key(number - units)]
        index[unit_key(number)] = number
    return (resident_bytes() - before) / units


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    units = parser.parse_args().units
    before = resident_bytes()
    policy, churn_s = fill_and_churn(units)
    per_unit = (resident_bytes() - before) / len(policy)
    touched_ns = touch_ns(policy, units)
    begun = time.perf_counter()
    snapshot = policy.snapshot()
    snapshot_s = time.perf_counter() - begun
    begun = time.perf_counter()
    policy.restore(snapshot)
    restore_s = time.perf_counter() - begun
    del policy, snapshot
    report = {
        "bench": "eviction_memory",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "units": units,
        "bytes_per_unit_after_churn": round(per_unit, 1),
        "limit_bytes_per_unit": LIMIT_BYTES_PER_UNIT,
        "dict_index_alone_bytes_per_unit": round(dict_bytes_per_unit(units), 1),
        "touch_ns": round(touched_ns),
        "evict_and_admit_us": round(churn_s * 1e6, 2),
        "longest_admit_ms": round(longest_admit_ms(units), 2),
        "snapshot_s": round(snapshot_s, 2),
        "restore_s": round(restore_s, 2),
    }
    print(json.dumps(report))
    sys.exit(0 if per_unit <= LIMIT_BYTES_PER_UNIT else 1)


if __name__ == "__main__":
    main()
