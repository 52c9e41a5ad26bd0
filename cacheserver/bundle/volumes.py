"""The volumes of a stopped node, opened for one command.

Owns: taking and giving back the locks. A volume that a running node holds is refused in one line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cacheserver.core.errors import ConfigError, CorruptObject
from cacheserver.core.request.keys import is_object_id
from cacheserver.store.object.file import ObjectFile, disk_errors
from cacheserver.store.options import StoreOptions
from cacheserver.store.volume import Volume
from cacheserver.system.clock import SystemClock
from cacheserver.system.place import reach


@contextmanager
def opened_volumes(store: StoreOptions) -> Iterator[Sequence[Volume]]:
    """The volumes of a node's store, locked. Raises ConfigError when one is in use or cannot be used."""
    opened: list[Volume] = []
    try:
        for options in store.volumes:
            _refuse_foreign(options.path)
            volume = Volume(
                path=options.path,
                capacity_bytes=options.max_size.bytes,
                low_water_percent=store.low_water_percent,
                errors_until_offline=store.errors_until_offline,
                retry_s=store.retry_offline_s,
                clock=SystemClock(),
            )
            volume.open()
            opened.append(volume)
        yield opened
    finally:
        for volume in opened:
            # A volume that was not reconciled is left so: the node's next start has to look at every file.
            volume.close(clean=volume.reconciled)


def _refuse_foreign(path: str) -> None:
    """ConfigError where another user could put a link to any folder in the place of this one, and this is root."""
    try:
        with reach(path) as place:
            foreign = place.foreign
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ConfigError(f"cache directory {path} cannot be used: {exc.strerror}", key="store.volumes") from exc
    if foreign:
        raise ConfigError(
            f"cache directory {path} lies in a folder that another user can change: run the command as the node's user",
            key="store.volumes",
        )


def stored_ids(volume: Volume) -> Iterator[str]:
    """Ids of all object files of a volume, in order. Raises DiskError."""
    for fan in range(256):
        with disk_errors("list objects"):
            names = sorted(os.listdir(os.path.join(volume.path, "objects", f"{fan:02x}")))
        yield from (name for name in names if is_object_id(name))


def open_object(volume: Volume, object_id: str) -> ObjectFile | None:
    """An object file that describes itself as this object; None where there is none or it is corrupt. DiskError."""
    try:
        file = ObjectFile.open(volume.path_of(object_id))
    except CorruptObject:
        return None
    if file is not None and file.representation.object_id != object_id:
        file.close()
        return None
    return file
