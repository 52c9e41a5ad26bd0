"""A real store in a temporary directory, small objects to put into it, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import DiskError
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.request.keys import object_id
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.recovery import recover
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume
from tests.support.content import blob
from tests.support.meter import CountingMeter

PIECE = 4096
EXTENT = 4 * PIECE
NOW_S = 1_700_000_000.0


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_s(self) -> float:
        """See ``ports.Clock``."""
        return NOW_S + self.now_s

    def monotonic_s(self) -> float:
        """See ``ports.Clock``."""
        return self.now_s


def representation(
    name: str = "a",
    length_bytes: int = 3 * PIECE + 100,
    *,
    fields: Sequence[tuple[str, str]] = (("Content-Type", "text/plain"),),
    etag: str | None = '"1"',
    combinable: bool = True,
) -> Representation:
    """The representation of an object called ``name``."""
    key = f"http://a.test/{name}"
    return Representation(
        key=key,
        object_id=object_id(key),
        service="own",
        length_bytes=length_bytes,
        piece_size_bytes=PIECE,
        fields=Fields(fields),
        validators=Validators(etag),
        request_time_s=NOW_S,
        response_time_s=NOW_S + 1,
        origin="http://a.test",
        path_and_query=f"/{name}",
        combinable=combinable,
    )


def body_of(rep: Representation) -> bytes:
    """The bytes that these tests store for a representation."""
    return blob(int(rep.object_id[:8], 16), rep.length_bytes)


def volume_at(path: Path, *, clock: HandClock | None = None, capacity_bytes: int = 1 << 26, errors: int = 3) -> Volume:
    """A volume that is not open yet; it evicts no more than it must."""
    return Volume(
        path=str(path),
        capacity_bytes=capacity_bytes,
        low_water_percent=100,
        errors_until_offline=errors,
        retry_s=5.0,
        clock=clock or HandClock(),
    )


def take_offline(volume: Volume) -> None:
    """Fail disk calls until the volume is not tried any more."""
    while volume.online:
        volume.failed(DiskError("read failed", errno=errno.EIO))


def store_over(volumes: Sequence[Volume], *, meter: CountingMeter | None = None, open_objects: int = 64) -> Store:
    """A store over open volumes."""
    return Store(
        volumes=volumes,
        extent_bytes=EXTENT,
        open_objects=open_objects,
        io_threads=2,
        meter=meter or CountingMeter(),
    )


@asynccontextmanager
async def running_store(
    *paths: Path,
    clock: HandClock | None = None,
    meter: CountingMeter | None = None,
    capacity_bytes: int = 1 << 26,
    open_objects: int = 64,
    clean: bool = True,
) -> AsyncIterator[Store]:
    """A store over these directories, recovered; stopped at the end, ``clean`` or as after a crash."""
    volumes = [volume_at(path, clock=clock, capacity_bytes=capacity_bytes) for path in paths]
    for volume in volumes:
        volume.open()
    store = store_over(volumes, meter=meter, open_objects=open_objects)
    try:
        for volume in volumes:
            await recover(store, volume, extent_bytes=EXTENT)
        yield store
    finally:
        await store.stop(clean=clean)


async def put_pieces(store: Store, obj: StoredObject, pieces: Sequence[int], body: bytes | None = None) -> None:
    """Write and commit pieces of an object's own body, or of another."""
    body = body_of(obj.representation) if body is None else body
    for piece in pieces:
        start, stop = obj.pieces.bounds(piece)
        digest = hashlib.sha256()
        with await store.reserve(obj, piece) as reservation:
            await store.write(obj, start, body[start:stop], digest)
            await store.commit(obj, piece, digest.digest(), reservation)


async def put(store: Store, rep: Representation) -> StoredObject:
    """Store a whole object; it is held while it is written, as by a fill."""
    obj = await store.create(rep)
    obj.hold()
    try:
        await put_pieces(store, obj, range(len(obj.pieces)))
    finally:
        obj.release()
    return obj


async def found(store: Store, rep: Representation) -> StoredObject:
    """An object that must be there."""
    obj = await store.find(rep.object_id)
    assert isinstance(obj, StoredObject)
    return obj


def bytes_on_disk(path: Path) -> int:
    """What every object file of a volume takes: its footer and recorded pieces, or its blocks if they are more."""
    total = 0
    for name in (path / "objects").glob(f"??/{'?' * 32}"):
        file = ObjectFile.open(str(name))
        assert file is not None
        total += max(file.expected_bytes, file.found_bytes)
        file.close()
    return total


def open_descriptors() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def settled() -> None:
    """Let every task that can run now run."""
    for _ in range(20):
        await asyncio.sleep(0)
