"""Fetching by pieces: does what ``workflow`` decides, with several requests at once.

Owns: the tasks, and when the note is written. A piece is written only after its digest matched.
"""

from __future__ import annotations

import asyncio
import time

from cacheserver.core.cache.answer import Asked, check_answer
from cacheserver.core.errors import BadAnswer, FetchFailed, GenerationChanged, UpstreamError
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.fetch.http import get
from cacheserver.fetch.part_file import PartFile, noted_pieces, pieces_note
from cacheserver.fetch.request import FetchRequest, Reporter
from cacheserver.fetch.standing import Hopeless
from cacheserver.fetch.workflow import Ask, Complete, PieceWorkflow
from cacheserver.upstream.client import UpstreamClient

_NOTE_EVERY_S = 0.5


class PieceFetch:
    """One fetch by pieces."""

    def __init__(
        self, *, client: UpstreamClient, request: FetchRequest, manifest: Manifest, part: PartFile, reporter: Reporter
    ) -> None:
        self._client = client
        self._request = request
        self._manifest = manifest
        self._part = part
        self._reporter = reporter
        self._tasks: set[asyncio.Task[None]] = set()
        self._noted_s = 0.0
        self._noted = 0
        """Pieces that the note names."""
        self.workflow = PieceWorkflow(request.sources, manifest.piece_count)
        self.resumed_bytes = 0

    @property
    def length_bytes(self) -> int:
        """Bytes of the finished file."""
        return self._manifest.length_bytes

    async def run(self) -> None:
        """Fetch all that is missing. Raises FetchFailed, DiskError; what was fetched stays for another run."""
        await self._resume()
        try:
            while True:
                if len(self._tasks) >= self._request.connections:
                    await self._wait(None)
                    continue
                step = self.workflow.next(time.monotonic())
                if isinstance(step, Complete):
                    return
                if isinstance(step, Hopeless):
                    raise FetchFailed(f"no source is left: {step.reason}")
                if isinstance(step, Ask):
                    self._tasks.add(asyncio.create_task(self._perform(step)))
                else:
                    await self._wait(step.rest_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._part.save_note(pieces_note(self._manifest, self.workflow.done))

    async def _resume(self) -> None:
        """Take up the pieces of an earlier run whose bytes are right."""
        part, manifest = self._part, self._manifest
        noted = noted_pieces(await asyncio.to_thread(part.note), manifest)
        have = await asyncio.to_thread(part.sound_pieces, manifest, noted)
        await asyncio.to_thread(part.begin, manifest.length_bytes)
        self.workflow = PieceWorkflow(self._request.sources, manifest.piece_count, have)
        self.resumed_bytes = sum(stop - start for start, stop in map(manifest.piece_span, have))
        if noted:
            self._reporter.notice(f"resumed with {len(have)} of {manifest.piece_count} pieces, hashed again")
        self._reporter.begin(manifest.length_bytes, self.resumed_bytes)

    async def _wait(self, rest_s: float | None) -> None:
        if not self._tasks:
            await asyncio.sleep(rest_s or 0.0)
            return
        unsaved = len(self.workflow.done) != self._noted
        timeout_s = _NOTE_EVERY_S if unsaved and (rest_s is None or rest_s > _NOTE_EVERY_S) else rest_s
        done, _ = await asyncio.wait(self._tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            self._tasks.remove(task)  # those behind one that has failed are gathered with the rest
            task.result()
        if len(self.workflow.done) != self._noted and time.monotonic() - self._noted_s >= _NOTE_EVERY_S:
            self._noted_s, self._noted = time.monotonic(), len(self.workflow.done)
            await asyncio.to_thread(self._part.save_note, pieces_note(self._manifest, self.workflow.done))

    async def _perform(self, ask: Ask) -> None:
        start, stop = self._manifest.piece_span(ask.piece)
        try:
            data = await self._piece(ask, start, stop)
        except UpstreamError as exc:
            if exc.retryable:
                self._reporter.notice(self.workflow.faulty(ask, str(exc), time.monotonic()))
            else:
                self._reporter.notice(self.workflow.refused(ask, str(exc)))
            return
        if await asyncio.to_thread(self._part.write_checked, start, data, self._manifest.piece_hash(ask.piece)):
            self.workflow.good(ask, len(data))
            self._reporter.advance(len(data))
        else:
            self._reporter.notice(self.workflow.bad(ask))

    async def _piece(self, ask: Ask, start: int, stop: int) -> bytes:
        """The bytes of one piece as a source sends them: exactly the asked range of a content of this length."""
        fields = {"Range": f"bytes={start}-{stop - 1}"}
        async with get(self._client, ask.source, fields) as answer:
            accepted = check_answer(
                asked=Asked(start, stop),
                status=answer.status,
                fields=answer.fields,
                expected=None,
                accepted_codings=frozenset(),
                immutable=True,
            )
            if accepted.total != self.length_bytes:
                raise GenerationChanged(f"has {accepted.total} bytes, the manifest says {self.length_bytes}")
            if (accepted.start, accepted.stop) != (start, stop):
                raise BadAnswer("the range was ignored")
            data = await answer.read_all(stop - start)
        if len(data) != stop - start:
            raise BadAnswer("the body is short", expected=stop - start, got=len(data))
        return data
