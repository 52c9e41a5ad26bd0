"""Checking stored pieces against their own digests: before they are delivered (I1), and at rest.

Owns: the checks under way before a delivery (callers share one), and the steps after a bad piece: a copy in quarantine,
then out of service, so that it is fetched again on demand. Must not decide when a piece is checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from enum import Enum
from functools import partial

from cacheserver.concurrency.single_flight import SingleFlight
from cacheserver.concurrency.uninterrupted import to_the_end
from cacheserver.core.errors import DiskError, PieceMismatch
from cacheserver.core.integrity import release
from cacheserver.core.integrity.release import Facts, Said, decide
from cacheserver.core.piece_map import ABSENT, PRESENT, STORED
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Meter
from cacheserver.store.object.file import ObjectFile
from cacheserver.store.object.quarantine import Quarantine
from cacheserver.store.object.residency import left_as_it_was
from cacheserver.store.open_objects import OpenObjects
from cacheserver.store.stored_object import StoredObject

_log = get_logger(__name__)


class Verdict(Enum):
    """The result of a check."""

    GOOD = "good"
    BAD = "bad"
    UNREADABLE = "unreadable"
    GONE = "gone"
    """The piece is not stored, or no longer: there is nothing to judge."""


class Checker:
    """Hashes pieces off the loop; clients that wait for the same piece share one check."""

    def __init__(self, objects: OpenObjects, *, meter: Meter) -> None:
        self._objects = objects
        self._meter = meter
        self._flights: SingleFlight[tuple[StoredObject, int], Verdict] = SingleFlight("check")

    async def check(self, obj: StoredObject, pieces: Sequence[int]) -> None:
        """Hash stored pieces: each becomes PRESENT, or ABSENT when it is bad or unreadable."""
        for piece in pieces:
            work = partial(self.recheck, obj, piece, self._objects.executor, leave_cold=False)
            obj.hold_for(self._flights.start((obj, piece), work))
            await self._flights.run((obj, piece), work)

    async def recheck(self, obj: StoredObject, piece: int, executor: Executor, *, leave_cold: bool = True) -> Verdict:
        """Read one piece again, a PRESENT one too, in a thread of ``executor``, and act on the result.

        ``leave_cold``: take a piece that was not in memory out of it again; False where it is sent next. ``check``
        does not wait for this call: a slow ``executor`` holds up no client. A caller that is cancelled waits for its
        end: the thread reads an object that is held.
        """
        return await to_the_end(self._rechecked(obj, piece, executor, leave_cold))

    async def _rechecked(self, obj: StoredObject, piece: int, executor: Executor, leave_cold: bool) -> Verdict:
        with obj.holding():
            if obj.file.fd < 0 or obj.pieces.state(piece) == ABSENT:
                return Verdict.GONE  # it may have been closed before this task's first step
            verdict = await self._looked_at(obj, piece, executor, leave_cold)
            if obj.pieces.state(piece) == ABSENT:
                return Verdict.GONE  # another task took it out of service meanwhile, and counted it
            self._settle(obj, piece, verdict)
            return verdict

    async def _looked_at(self, obj: StoredObject, piece: int, executor: Executor, leave_cold: bool) -> Verdict:
        volume = obj.volume
        loop = asyncio.get_running_loop()
        try:
            good = await loop.run_in_executor(executor, _is_good, obj.file, piece, volume.quarantine, leave_cold)
        except DiskError as exc:
            self._objects.note_failure(volume, exc)
            return Verdict.UNREADABLE
        volume.succeeded()
        return Verdict.GOOD if good else Verdict.BAD

    def _settle(self, obj: StoredObject, piece: int, verdict: Verdict) -> None:
        self._meter.verified("at_rest", "ok" if verdict is Verdict.GOOD else verdict.value)
        said = Said.CONTRADICTS if verdict is Verdict.BAD else Said.AGREES
        rule = decide(Facts(piece=said, stored=True))
        bad = rule.verdict is release.Verdict.CONDEMN
        if bad:
            self._meter.content_refused(rule.reason.value)
        if verdict is Verdict.GOOD:
            if obj.pieces.state(piece) == STORED:
                obj.pieces.mark(piece, PRESENT)
            return
        self._objects.drop_piece(obj, piece, bad=bad)
        facts = {"object_id": obj.object_id, "piece": piece, "found": verdict.value, "volume": obj.volume.path}
        event(_log, "bad_piece_at_rest", severity=logging.WARNING, **facts)


def _is_good(file: ObjectFile, piece: int, quarantine: Quarantine, leave_cold: bool) -> bool:
    """Whether a stored piece matches its digest; a bad one is copied. Blocking; DiskError when it cannot be read."""
    with left_as_it_was(file.fd, *file.pieces.bounds(piece)) if leave_cold else nullcontext():
        try:
            file.check_piece(piece)
            return True
        except PieceMismatch:
            pass
        # A second look: the piece may have been replaced while it was read, and the copy must be of a bad one.
        data = file.read_piece(piece)
        if hashlib.sha256(data).digest() == file.digest_of(piece):
            return True
        if file.pieces.state(piece) != ABSENT:
            quarantine.keep(f"{file.representation.object_id}-{piece}", data)
        return False
