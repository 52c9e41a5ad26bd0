"""Speed of the catalogue with a million rows: writing, opening, loading, reading; prints JSON.

Run: ``python -m bench.catalogue_load [--rows N] [--directory DIR]``; the directory is temporary otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sqlite3
import sys
import tempfile
import time
from hashlib import blake2b
from pathlib import Path

from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord

LIMIT_S_PER_MILLION = 4.0
READS = 20_000


def object_id(number: int) -> str:
    """The id of the n-th object."""
    return blake2b(number.to_bytes(8, "little"), digest_size=16).hexdigest()


async def write(directory: str, rows: int) -> float:
    """Seconds until ``rows`` rows are durable."""
    catalogue = Catalogue(directory)
    begun = time.perf_counter()
    for number in range(rows):
        record = CatalogueRecord(number * 1000, number * 1000 + 4096, number % 10 != 0, "windows-update")
        catalogue.put(object_id(number), record)
    await catalogue.flush()
    taken_s = time.perf_counter() - begun
    catalogue.close()
    return taken_s


def timed_reads_us(catalogue: Catalogue, rows: int) -> dict[str, float]:
    """Median and 99th percentile of one ``get`` at random, in microseconds."""
    rng = random.Random(1)
    wanted = [object_id(rng.randrange(rows)) for _ in range(READS)]
    taken = []
    for name in wanted:
        begun = time.perf_counter()
        found = catalogue.get(name)
        taken.append(time.perf_counter() - begun)
        assert found is not None
    taken.sort()
    return {"p50": round(taken[READS // 2] * 1e6, 1), "p99": round(taken[READS * 99 // 100] * 1e6, 1)}


def measure(directory: str, rows: int) -> dict[str, object]:
    """All figures of one run."""
    write_s = asyncio.run(write(directory, rows))
    size_bytes = sum(path.stat().st_size for path in Path(directory).iterdir())
    begun = time.perf_counter()
    catalogue = Catalogue(directory)
    open_s = time.perf_counter() - begun
    begun = time.perf_counter()
    loaded = sum(len(batch) for batch in catalogue.iterate())
    load_s = time.perf_counter() - begun
    begun = time.perf_counter()
    catalogue.stored_bytes_total()
    sum_s = time.perf_counter() - begun
    reads = timed_reads_us(catalogue, rows)
    catalogue.close()
    return {
        "rows": loaded,
        "database_bytes": size_bytes,
        "write_us_per_row": round(write_s / rows * 1e6, 1),
        "open_s": round(open_s, 2),
        "load_s": round(load_s, 2),
        "load_s_per_million": round(load_s / rows * 1e6, 2),
        "sum_s": round(sum_s, 2),
        "get_us": reads,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--directory", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as root:
        figures = measure(str(Path(root) / "catalogue"), arguments.rows)
    machine = {
        "bench": "catalogue_load",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "limit_s_per_million": LIMIT_S_PER_MILLION,
    }
    print(json.dumps({**machine, **figures}))
    slow = figures["load_s_per_million"]
    sys.exit(0 if isinstance(slow, float) and slow <= LIMIT_S_PER_MILLION else 1)


if __name__ == "__main__":
    main()
