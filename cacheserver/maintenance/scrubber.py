"""The scrubber of a node: one even, endless pass over every volume, whole passes on demand, and what both have found.

Owns: the tasks and threads, one of each per volume. Walking is ``volume_scrub``'s.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from cacheserver.logs.events import event, get_logger
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Load
from cacheserver.maintenance.volume_scrub import Progress, Rest, VolumeScrub
from cacheserver.ports import Clock
from cacheserver.store.store import Store
from cacheserver.store.volume import Volume

_log = get_logger(__name__)
_RETRY_S = 60.0
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
"""Number of the system call by machine; the C library has no wrapper for it."""
_WHO_PROCESS: Final = 1
_THIS_THREAD: Final = 0
_IDLE: Final = 3 << 13


def be_idle() -> bool:
    """Put the calling thread into the kernel's idle I/O class, so that its reads wait until the drive is free.

    False where that is not known here: the thread is an ordinary one then, and the scrubber's own pace has to do.
    """
    number = _IOPRIO_SET.get(platform.machine())
    if platform.system() != "Linux" or number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, _THIS_THREAD, _IDLE)
    return result == 0


async def rest(wake: asyncio.Event, seconds: float) -> None:
    """Wait until ``wake`` is set, at most so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


class Scrubber:
    """All volumes of one store."""

    def __init__(
        self,
        *,
        store: Store,
        options: ScrubOptions,
        clock: Clock,
        load: Load,
        count: Callable[[int], None],
        piece_size_bytes: int,
        rest: Rest = rest,
    ) -> None:
        """``count`` is called with the bytes that were read; ``rest`` is how it waits, for tests."""
        self.number = 0
        """How many passes were asked for."""
        self._executor = ThreadPoolExecutor(len(store.volumes), thread_name_prefix="scrub", initializer=be_idle)
        self._options = options
        self._walks = {
            volume: VolumeScrub(
                store=store,
                volume=volume,
                options=lambda: self._options,
                clock=clock,
                load=load,
                executor=self._executor,
                count=count,
                piece_size_bytes=piece_size_bytes,
                rest=rest,
            )
            for volume in store.volumes
        }

    async def run(self) -> None:
        """Scrub until cancelled; returns once every thread is at rest and every position is kept."""
        try:
            async with asyncio.TaskGroup() as group:
                for walk in self._walks.values():
                    group.create_task(self._keep_walking(walk), name="scrub")
        finally:
            self._executor.shutdown(wait=True)

    async def _keep_walking(self, walk: VolumeScrub) -> None:
        """A fault of our own must not end the scrubbing of a volume for good."""
        while True:
            try:
                await walk.run()
            except Exception as exc:
                event(_log, "failed", severity=logging.ERROR, reason="internal", kind=type(exc).__name__)
                _log.debug("scrub failed", exc_info=True)
                await asyncio.sleep(_RETRY_S)

    def use(self, options: ScrubOptions) -> None:
        """Take up other settings, from the next piece on."""
        self._options = options

    @property
    def period_s(self) -> float:
        """Seconds in which every stored piece is to be read once; 0: never by itself."""
        return self._options.days * 86_400 if self._options.enabled else 0.0

    def start_now(self) -> bool:
        """Begin a whole pass over every volume; False while the last one that was asked for is not done."""
        if any(walk.now.running for walk in self._walks.values()):
            return False
        self.number += 1
        for walk in self._walks.values():
            walk.ask()
        return True

    def completed_s(self, volume: Volume) -> float:
        """Unix time at which the last whole pass over a volume ended; 0: never."""
        return self._walks[volume].position.completed_s

    def progress(self) -> dict[str, Any]:
        """For the admin API: the last pass that was asked for, the even one, and when all volumes were done last."""
        return {
            "number": self.number,
            "now": _joined(walk.now for walk in self._walks.values()),
            "paced": {"enabled": self._options.enabled, "days": self._options.days}
            | _joined(walk.paced for walk in self._walks.values()),
            "last_complete": min((walk.position.completed_s for walk in self._walks.values()), default=0.0),
        }


def _joined(parts: Iterable[Progress]) -> dict[str, Any]:
    """Sums of counts; a state holds where it holds for one of the volumes."""
    whole = asdict(Progress())
    for part in parts:
        for name, value in asdict(part).items():
            whole[name] = (whole[name] or value) if isinstance(value, bool) else whole[name] + value
    return whole
