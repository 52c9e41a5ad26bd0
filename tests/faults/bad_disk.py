"""Drives that fail: one block, one drive, all of them, only for writing, and when they are told to sync."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cacheserver.core.disk_faults import Blame
from cacheserver.core.errors import DiskError
from cacheserver.store.volume import Volume
from tests.faults.disk_layer import Call, DiskLayer, Rule, works
from tests.faults.figures import Figure, Size, all_of, at_most, none_of
from tests.faults.in_process import InProcess, running, settings_for
from tests.faults.load import GONE, Tally
from tests.support.content import Content, blob
from tests.support.ground import FRESH, was_hit
from tests.support.origin import Origin

PIECE = 65_536
CONFIG = '[store]\npiece_size = "64KiB"\nretry_offline_s = {}\nopen_objects = 16\n[fill]\npass_memory_s = 0\n'
MOVED_S = 20
LENGTH = 5 * PIECE + 100
FIVE = 5
"""``store.errors_until_offline``."""
ENOUGH = 100
"""New objects after which a drive that is drawn for one in two has been asked, but for a chance of 2**-80."""


class Bench:
    """One node in process on healthy disks that hold some objects; the layer's rule makes them ail."""

    def __init__(self, origin: Origin, layer: DiskLayer, node: InProcess, count: int) -> None:
        self.origin = origin
        self.layer = layer
        self.node = node
        self.tally = Tally()
        self.warm = [self._add(f"/warm{number}", number) for number in range(count)]
        self.cold = [self._add(f"/cold{number}", 1000 + number) for number in range(count)]

    def _add(self, path: str, seed: int) -> str:
        self.origin.add(path, Content(self.body(path, seed), headers=FRESH))
        return path

    def body(self, path: str, seed: int | None = None) -> bytes:
        """The bytes at a path."""
        number = int(path.lstrip("/warmcold")) + (1000 if "cold" in path else 0)
        return blob(9_000 + (number if seed is None else seed), LENGTH)

    async def ask(self, paths: Sequence[str]) -> int:
        """Every path once, one after the other; how many were hits."""
        hits = 0
        for path in paths:
            try:
                answer = await self.node.get(path)
            except GONE:
                self.tally.cut += 1
                continue
            self.tally.judge(answer, (self.body(path),), 200)
            hits += was_hit(answer)
        return hits

    async def ask_until(self, happened: Callable[[], bool]) -> None:
        """Warm objects, cold ones, then as many new ones as it takes, one by one: where each lies is chance."""
        count = len(self.cold)
        for path in (*self.warm, *self.cold):
            await self.ask([path])
            if happened():
                return
        for number in range(count, count + ENOUGH):
            await self.ask([self._add(f"/cold{number}", 1000 + number)])
            if happened():
                return

    def fetched(self, paths: Sequence[str]) -> int:
        """Body bytes that the origin sent for these paths."""
        return sum(self.origin.body_bytes(path) for path in paths)


def _reads(call: Call) -> bool:
    return call.name in ("pread", "preadv", "sendfile")


def covers(call: Call, at: int) -> bool:
    """Whether a read touches the byte at this offset of its file."""
    if call.name == "pread":
        size, start = int(call.arguments[1]), int(call.arguments[2])
    elif call.name == "sendfile":
        start, size = int(call.arguments[1]), int(call.arguments[2])
    else:
        size, start = 1, int(call.arguments[2])
    return start <= at < start + size


async def one_block(bench: Bench) -> list[Figure]:
    """One block of every warm object cannot be read, for ever."""
    fault, at = "EIO on one block", 2 * PIECE + 4096
    before = bench.fetched(bench.warm)
    bench.layer.rule = lambda call: errno.EIO if _reads(call) and covers(call, at) else 0
    await bench.ask(bench.warm)
    again = (bench.fetched(bench.warm) - before) / len(bench.warm) / PIECE
    return [
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
        at_most(fault, "pieces fetched again per object", again, 8),
    ]


def _of_volume(*volumes: int) -> Rule:
    return lambda call: errno.EIO if call.volume in volumes else 0


async def dead_volume(bench: Bench) -> list[Figure]:
    """Every call on the first of two drives fails."""
    fault, first = "a dead volume of two", bench.node.volumes[0]
    bench.layer.rule = _of_volume(0)
    errors = _errors_until_offline(first)
    await bench.ask_until(lambda: not first.online)
    in_use = int(first.online)
    await bench.ask(bench.cold)  # what was passed while the first one ailed is stored now
    second_hits = await bench.ask(bench.cold)
    return [
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
        none_of(fault, "dead volumes still in use", in_use, among="2 volumes"),
        at_most(fault, "errors until it is offline", len(errors), FIVE),
        all_of(fault, "of new objects on the other volume are hits", second_hits, len(bench.cold)),
    ]


def _errors_until_offline(volume: Volume) -> list[DiskError]:
    """Grows with each error up to the one that takes the volume offline; what is under way then fails as well."""
    errors: list[DiskError] = []
    real = volume.failed

    def failed(error: DiskError) -> Blame:
        if volume.online:
            errors.append(error)
        return real(error)

    volume.failed = failed  # type: ignore[method-assign]
    return errors


async def stays_dead(bench: Bench) -> list[Figure]:
    """One of two drives is still dead when it is tried again: what was open on it moves to the other one."""
    fault, first = "a volume of two that stays dead", bench.node.volumes[0]
    bench.layer.rule = _of_volume(0)
    await bench.ask_until(lambda: not first.online)
    began_s, hits = time.monotonic(), 0
    while hits < len(bench.warm) and time.monotonic() - began_s < MOVED_S:
        hits = await bench.ask(bench.warm)
    return [
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
        all_of(fault, f"of warm objects are hits again within {MOVED_S} s", hits, len(bench.warm)),
    ]


async def all_dead(bench: Bench) -> list[Figure]:
    """No drive answers."""
    fault = "all volumes dead"
    bench.layer.rule = _of_volume(0, 1)
    await bench.ask_until(lambda: not _online(bench))
    online, failed = _online(bench), bench.layer.failed
    await bench.ask(bench.cold)
    return [
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
        none_of(fault, "volumes in use", online, among=f"{len(bench.node.volumes)} volumes"),
        at_most(fault, "disk calls once all are offline", bench.layer.failed - failed, FIVE),
    ]


def _online(bench: Bench) -> int:
    return sum(volume.online for volume in bench.node.volumes)


def _opens_to_write(call: Call) -> bool:
    return call.name == "open" and bool(int(call.arguments[1]) & (os.O_RDWR | os.O_WRONLY))


async def read_only(bench: Bench) -> list[Figure]:
    """The file systems were mounted again read-only."""
    fault = "read-only remount"
    bench.layer.rule = lambda call: errno.EROFS if call.writes or _opens_to_write(call) else 0
    await bench.ask(bench.cold)
    hits = await bench.ask(bench.warm)
    return [
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
        all_of(fault, "of warm objects still hits", hits, len(bench.warm)),
    ]


async def fsync_fails(bench: Bench) -> list[Figure]:
    """Syncing fails once, then would succeed: nobody may believe it."""
    fault = "fsync fails once"
    made = 0

    def rule(call: Call) -> int:
        nonlocal made
        if call.name not in ("fsync", "fdatasync"):
            return 0
        made += 1
        return errno.EIO if made == 1 else 0

    bench.layer.rule = rule
    catalogue = bench.node.volumes[0].catalogue
    errors = 0
    for _ in range(3):
        try:
            await catalogue.flush()
        except Exception:
            errors += 1
    await bench.ask((*bench.warm, *bench.cold))
    return [
        all_of(fault, "of later flushes report it", errors, 3),
        at_most(fault, "sync calls", made, 1),
        all_of(fault, "of requests served right", bench.tally.right, bench.tally.requests),
    ]


PLAYS = (one_block, dead_volume, stays_dead, all_dead, read_only, fsync_fails)


async def run(directory: Path, size: Size) -> list[Figure]:
    """Every play on a node of its own, with two drives."""
    figures = []
    for play in PLAYS:
        place = directory / play.__name__
        volumes = [place / "one", place / "two"]
        layer = DiskLayer(*volumes)
        async with Origin() as origin:
            config = CONFIG.format(1 if play is stays_dead else 60)
            settings = settings_for(place, origin, config, volumes, "1GiB")
            with layer.installed():
                async with running(settings) as node:
                    await node.recovered()
                    bench = Bench(origin, layer, node, size.choose(8, 100))
                    await bench.ask(bench.warm)
                    bench.tally = Tally()
                    figures += await play(bench)
                    wrong = bench.tally.wrong + len(bench.node.faults)
                    figures.append(none_of(figures[-1].fault, "wrong answers", wrong, among=str(bench.tally.requests)))
                    layer.rule = works
    return figures
