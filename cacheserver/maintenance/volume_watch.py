"""The life of one volume while the node runs: opened, recovered, watched, lost and opened anew.

Owns: when a volume is tried, what is said when its directory is removed, replaced or unmounted beneath the node, and
when it is back. Must not know what is stored; ``store`` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import CacheserverError, ConfigError, DiskError, VolumeOffline
from cacheserver.logs.events import event, get_logger
from cacheserver.store.recovery import audit, recover
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume

_log = get_logger(__name__)
_LOOK_EVERY_S: Final = 2.0


def try_open(volume: Volume, passing: tuple[type[CacheserverError], ...] = (VolumeOffline,), told: str = "") -> str:
    """Open a volume; why it cannot be opened now, which is logged unless it was ``told``. It may be tried again later.

    Raises ConfigError where that is not passing.
    """
    try:
        volume.open()
        return ""
    except passing as exc:
        if str(exc) != told:
            event(_log, "volume_offline", severity=logging.ERROR, reason=str(exc))
        return str(exc)


async def keep(
    store: Store,
    volume: Volume,
    *,
    extent_bytes: int,
    retry_s: float,
    on_open: Callable[[Volume], None],
    look_every_s: float = _LOOK_EVERY_S,
) -> None:
    """See to a volume until cancelled; ``on_open`` is called each time it is open, before anything is evicted there."""
    passing, reason, told_lives = (VolumeOffline, ConfigError), "", volume.lives

    async def opening() -> str:
        work = partial(try_open, volume, passing, reason)
        return await to_the_end(asyncio.get_running_loop().run_in_executor(store.executor, work))

    while True:
        while not volume.opened:
            await asyncio.sleep(retry_s)
            reason = await opening()
        if volume.lives > told_lives:
            told_lives = volume.lives
            event(_log, "volume_made_anew", severity=logging.WARNING, volume=volume.path)
        on_open(volume)
        await recover(store, volume, extent_bytes=extent_bytes)
        auditing = asyncio.create_task(audit(store, volume), name="audit")
        try:
            reason = await _until_lost(store, volume, look_every_s)
        finally:
            auditing.cancel()
            await asyncio.gather(auditing, return_exceptions=True)
        event(_log, "volume_lost", severity=logging.ERROR, volume=volume.path, reason=reason)
        await store.lose(volume)
        reason = await opening()


async def _until_lost(store: Store, volume: Volume, look_every_s: float) -> str:
    """Look at the volume now and then; why it is not what was opened any more."""
    while True:
        await asyncio.sleep(look_every_s)
        try:
            reason = await store.inspect(volume)
        except DiskError:
            continue  # the drive fails: the volume knows
        if reason is not None:
            return reason
