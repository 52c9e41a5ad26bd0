"""A full cache without any download: real object files and as many catalogue rows as are wanted.

Owns: making the directory by way of the node's own store classes, so that the node finds nothing unusual. Some
thousand objects are real files with right bytes; the rest are rows and recency alone, which is all that a start
reads of them. Must not run while a node has the directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.content import MIB, Truth, object_path
from bench.lab import ALLOWED, AUTHORITY
from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.target import Target
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.settings.services_table import service_from_allow
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.store import Store
from cacheserver.store.stored_object import unit_key
from cacheserver.store.volume import Volume

REAL_LENGTH_BYTES = 64 << 10
ROW_STORED_BYTES = 6 << 10
CAPACITY_BYTES = 10 << 30
BATCH_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Populated:
    """What was stored: ``stored`` objects in all, those in ``numbers`` (ascending) as real files."""

    cache_dir: Path
    stored: int
    numbers: tuple[int, ...]

    @property
    def paths(self) -> list[str]:
        """Paths of the real objects."""
        return [object_path(number, REAL_LENGTH_BYTES) for number in self.numbers]


class _SystemClock:
    def wall_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


def populate(cache_dir: Path, truth: Truth, *, stored: int, real: int, seed: int = 1) -> Populated:
    """Store ``real`` objects with their bytes and rows up to ``stored`` in all, as a node that stopped cleanly."""
    if not 0 < real <= stored:
        raise ValueError("real objects are some of the stored ones")
    numbers = tuple(range(real))
    asyncio.run(_populate(cache_dir, truth, numbers, rows=stored - real, seed=seed))
    return Populated(cache_dir, stored, numbers)


async def _populate(cache_dir: Path, truth: Truth, numbers: Sequence[int], *, rows: int, seed: int) -> None:
    volume = Volume(
        path=str(cache_dir),
        capacity_bytes=CAPACITY_BYTES,
        low_water_percent=98,
        errors_until_offline=5,
        retry_s=5.0,
        clock=_SystemClock(),
    )
    volume.open()
    volume.loaded.set()
    volume.reconciled = True
    store = Store(volumes=(volume,), extent_bytes=32 * MIB, open_objects=1024, io_threads=2, meter=PrometheusMeter())
    for number in numbers:
        await _store_real(store, truth, number)
    await _store_rows(volume, rows, random.Random(seed))
    await store.stop(clean=True)


async def _store_real(store: Store, truth: Truth, number: int) -> None:
    representation = _representation(number)
    stored_object = await store.create(representation)
    for piece in range(representation.piece_count):
        start, stop = stored_object.pieces.bounds(piece)
        digest = hashlib.sha256()
        reservation = await store.reserve(stored_object, stop - start)
        await store.write(stored_object, start, truth.read(number, start, stop), digest)
        await store.commit(stored_object, piece, digest.digest(), reservation)


def _target(path: str) -> Target:
    """What the node makes of a request for ``path``."""
    return parse_target(path, (AUTHORITY,), tls=False, allowlist=AllowList((service_from_allow(ALLOWED),)))


def object_id_of(path: str) -> str:
    """The id under which the node stores what is asked for as ``path``."""
    return _target(path).object_id


def _representation(number: int) -> Representation:
    """What the node would have stored of this object, had it come from the counting origin just now."""
    target = _target(object_path(number, REAL_LENGTH_BYTES))
    etag, modified = f'"{number}-{REAL_LENGTH_BYTES}"', "Mon, 01 Jan 2024 00:00:00 GMT"
    now = time.time()
    fields = {
        "Content-Type": "application/octet-stream",
        "Cache-Control": "public, max-age=604800",
        "Last-Modified": modified,
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)),
        "ETag": etag,
    }
    return Representation(
        key=target.key,
        object_id=target.object_id,
        service=target.service.name,
        length_bytes=REAL_LENGTH_BYTES,
        piece_size_bytes=MIB,
        fields=Fields(fields.items()),
        validators=Validators(etag, modified),
        request_time_s=now,
        response_time_s=now,
        origin=target.origin,
        path_and_query=target.path_and_query,
    )


async def _store_rows(volume: Volume, rows: int, generator: random.Random) -> None:
    service = service_from_allow(ALLOWED).name
    record = CatalogueRecord(
        length_bytes=ROW_STORED_BYTES // 2, stored_bytes=ROW_STORED_BYTES, complete=True, service=service
    )
    for row in range(rows):
        object_id = generator.randbytes(16).hex()
        volume.catalogue.put(object_id, record)
        volume.policy.admit(unit_key(object_id, None), ROW_STORED_BYTES)
        if row % BATCH_ROWS == BATCH_ROWS - 1:
            await volume.catalogue.flush()
    volume.ledger.correct(rows * ROW_STORED_BYTES)
    volume.object_count += rows
