"""Settings of the store: where objects live and how much room they get."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cacheserver.core.units import Size


class VolumeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One drive or directory."""

    path: Annotated[str, Meta(min_length=1, description="Directory of this volume; created 0700 when missing.")]
    max_size: Annotated[
        Size,
        Meta(description='Most bytes this volume may hold, such as "500GiB"; object files and their footers count.'),
    ] = Size("100GiB")


class StoreOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where objects live and how much room they get."""

    volumes: Annotated[
        tuple[VolumeOptions, ...],
        Meta(description="One table per drive. Empty: one volume in the user's cache directory."),
    ] = ()
    piece_size: Annotated[
        Size, Meta(description="Piece size without a manifest, a power of two from 64KiB to 16MiB; clients use 1MiB.")
    ] = Size("1MiB")
    io_threads: Annotated[
        int, Meta(ge=1, le=64, description="Threads for disk writes and hashing; as many read ahead.")
    ] = 4
    open_objects: Annotated[
        int, Meta(ge=16, le=1_000_000, description="Object files kept open; each costs a descriptor and about 1 KiB.")
    ] = 2048
    low_water_percent: Annotated[
        int,
        Meta(ge=50, le=100, description="Eviction frees down to this share of max_size, so that it runs in batches."),
    ] = 98
    extent: Annotated[
        Size, Meta(description="Unit in which cold parts of large objects are evicted; a multiple of the piece size.")
    ] = Size("32MiB")
    pinned_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Most of a volume's max_size that pinned objects may take; a pin beyond it is refused.",
        ),
    ] = 50
    errors_until_offline: Annotated[
        int, Meta(ge=1, le=1000, description="I/O errors in a row that take a volume offline.")
    ] = 5
    retry_offline_s: Annotated[
        int, Meta(ge=1, le=86_400, description="Seconds between tries to bring an offline or full volume back.")
    ] = 5
