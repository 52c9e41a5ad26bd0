"""One thread that writes queued rows in batches, while readers see them at once.

Owns the queue, the overlay and the thread. Must not know what a row means or how it is written: ``apply`` writes one
batch in one transaction, ``sync`` makes all batches durable, ``release`` ends the thread's own resources; all three
run in the thread. A failed batch goes back to the queue under whatever was queued since, and is tried again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import islice
from typing import Final, NamedTuple

from cacheserver.core.errors import DiskError, StoreError

BATCH_ROWS = 1000
"""About 15 ms in one transaction."""
LINGER_S = 0.05
"""How long the first row of a batch waits for more rows; ``flush`` ends the wait."""
RETRY_S = 1.0
MAX_BACKLOG = 100_000
"""Rows kept while the disk fails, about 25 MB; more new rows are refused, deletions never."""


class Row(NamedTuple):
    """A row's value, and the number that stands beside it."""

    value: bytes
    stored_bytes: int


class Unqueued:
    """Nothing is queued for a key (None means: its deletion is)."""


UNQUEUED: Final = Unqueued()


class BatchWriter:
    """Queue, overlay and writer thread; every method may be called from any thread."""

    def __init__(
        self,
        *,
        apply: Callable[[Mapping[str, Row | None]], None],
        sync: Callable[[], None],
        release: Callable[[], None],
        translate: Callable[[Exception], StoreError],
        retry_s: float = RETRY_S,
        max_backlog: int = MAX_BACKLOG,
    ) -> None:
        """Start the thread."""
        self._apply, self._sync, self._release, self._translate = apply, sync, release, translate
        self._retry_s, self._max_backlog = retry_s, max_backlog
        self._wake = threading.Condition()
        self._queued: dict[str, Row | None] = {}
        self._in_hand: dict[str, Row | None] = {}
        self._waiters: list[Future[None]] = []
        self._failure: StoreError | None = None
        self._sync_failure: StoreError | None = None
        self._closing = False
        self.errors = 0
        """Failed batches and failed syncs."""
        self._thread = threading.Thread(target=self._run, name="catalogue-writer", daemon=True)
        self._thread.start()

    # -- any thread -----------------------------------------------------------------------------------------------

    def queue(self, key: str, row: Row | None) -> None:
        """Write ``row``, or delete the key's row for None, soon.

        Raises DiskError after ``close``, and for a new row while the disk fails and the backlog is full.
        """
        with self._wake:
            if self._closing:
                raise DiskError("the catalogue is closed")
            if row is not None and key not in self._queued and key not in self._in_hand:
                self._refuse_overflow()
            if not self._queued:
                self._wake.notify()
            self._queued[key] = row

    def _refuse_overflow(self) -> None:
        if self._failure is not None and len(self._queued) + len(self._in_hand) >= self._max_backlog:
            number = self._failure.errno if isinstance(self._failure, DiskError) else None
            raise DiskError("the catalogue cannot be written and its backlog is full", errno=number)

    def look_up(self, key: str) -> Row | Unqueued | None:
        """The queued row, None for a queued deletion, UNQUEUED where the database is up to date."""
        with self._wake:
            return self._queued.get(key, self._in_hand.get(key, UNQUEUED))

    def overlay(self) -> dict[str, Row | None]:
        """A copy of all that is queued; some of it may have reached the database when the caller looks there."""
        with self._wake:
            return {**self._in_hand, **self._queued}

    async def flush(self) -> None:
        """Wait until all that was queued before is durable. Raises the error of the try; the rows stay queued."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # a waiter that is cancelled does not reach it
        with self._wake:
            if self._closing:
                raise DiskError("the catalogue is closed")
            self._waiters.append(done)
            self._wake.notify()
        await asyncio.wrap_future(done)

    def close(self) -> None:
        """Write what is queued in one last try and end the thread; again is nothing. Blocking."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._cycle():
                pass
        finally:
            self._release()

    def _cycle(self) -> bool:
        with self._wake:
            self._wait_for_work()
            waiters, self._waiters = self._waiters, []
            todo, closing = len(self._queued), self._closing
        failure = self._drain(todo)
        with self._wake:
            self._failure = failure
        if waiters or closing:
            failure = failure or self._make_durable()
        for done in waiters:
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)
        return not closing

    def _wait_for_work(self) -> None:
        """Return at once for a flush or the end, after a pause for rows: to gather more, or to spare a sick disk."""
        paused = False
        while not (self._closing or self._waiters or (self._queued and paused)):
            paused = bool(self._queued)
            self._wake.wait((LINGER_S if self._failure is None else self._retry_s) if paused else None)

    def _drain(self, todo: int) -> StoreError | None:
        """Write the first ``todo`` queued rows, batch by batch; the error of the first batch that failed."""
        while todo > 0:
            with self._wake:
                batch = dict(islice(self._queued.items(), min(todo, BATCH_ROWS)))
                for key in batch:
                    del self._queued[key]
                self._in_hand = batch
            todo -= len(batch)
            failure: StoreError | None = None
            try:
                self._apply(batch)
            except Exception as exc:
                failure = self._failed(exc)
            with self._wake:
                if failure is not None:
                    self._queued = {**batch, **self._queued}
                self._in_hand = {}
            if failure is not None:
                return failure
        return None

    def _make_durable(self) -> StoreError | None:
        """A sync that failed once is never believed again: the kernel may have dropped the pages it could not write."""
        if self._sync_failure is None:
            try:
                self._sync()
            except Exception as exc:
                self._sync_failure = self._failed(exc)
        return self._sync_failure

    def _failed(self, exc: Exception) -> StoreError:
        error = self._translate(exc)
        error.__cause__ = exc if error is not exc else None
        self.errors += 1
        return error
