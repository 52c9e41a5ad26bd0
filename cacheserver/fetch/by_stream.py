"""Fetching without metadata: does what ``simple`` decides, one request at a time.

Owns: the running digest of what was written, and the note that lets a later run go on by If-Range.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from cacheserver.core.cache.answer import Asked, check_answer
from cacheserver.core.cache.generation import resume_condition
from cacheserver.core.errors import BadAnswer, FetchFailed, GenerationChanged, UpstreamError, UpstreamTimeout
from cacheserver.core.http.validators import Validators
from cacheserver.fetch.http import get
from cacheserver.fetch.part_file import PartFile, SimpleNote
from cacheserver.fetch.request import FetchRequest, Reporter
from cacheserver.fetch.simple import AskRest, Generation, SimpleWorkflow
from cacheserver.fetch.standing import Hopeless
from cacheserver.upstream.client import Answer, UpstreamClient

_NOTE_EVERY_S = 0.5


class StreamFetch:
    """One fetch in simple mode."""

    def __init__(self, *, client: UpstreamClient, request: FetchRequest, part: PartFile, reporter: Reporter) -> None:
        self._client = client
        self._request = request
        self._part = part
        self._reporter = reporter
        self._digest = hashlib.sha256()
        self._noted_s = 0.0
        self.workflow = SimpleWorkflow(request.sources)
        self.resumed_bytes = 0

    @property
    def length_bytes(self) -> int:
        """Bytes of the finished file."""
        return self.workflow.have_bytes

    async def run(self) -> None:
        """Fetch the file. Raises FetchFailed, DiskError; what was fetched stays for another run."""
        await self._resume()
        try:
            while True:
                ask = self.workflow.next(time.monotonic())
                if isinstance(ask, Hopeless):
                    raise FetchFailed(f"no source is left: {ask.reason}")
                await asyncio.sleep(ask.rest_s)
                if await self._try(ask):
                    break
            await asyncio.to_thread(self._part.begin, self.length_bytes)
        except BaseException:
            if self._note() is None:
                self._part.begin(0)  # nothing can go on from these bytes: give a full disk its room back
            raise
        finally:
            self._part.save_note(self._note())

    async def _resume(self) -> None:
        note = await asyncio.to_thread(self._part.note)
        if not isinstance(note, SimpleNote) or note.url != self._request.url.shown:
            return
        digest = await asyncio.to_thread(self._part.digest, 0, note.have_bytes)
        if digest.hexdigest() != note.sha256 or not 0 < note.have_bytes < note.length_bytes:
            self._reporter.notice("what an earlier run left is not what it wrote: beginning anew")
            return
        self._digest = digest
        self.workflow.have_bytes = self.resumed_bytes = note.have_bytes
        self.workflow.generation = Generation(
            note.source, note.length_bytes, note.condition, Validators(note.etag, note.last_modified)
        )
        self._reporter.notice(f"resumed at byte {note.have_bytes}, hashed again")

    async def _try(self, ask: AskRest) -> bool:
        """Perform one request; whether the file is complete."""
        started_s = time.monotonic()
        fields = {}
        if ask.start and ask.generation is not None and ask.generation.condition is not None:
            fields = {"Range": f"bytes={ask.start}-", "If-Range": ask.generation.condition}
        try:
            async with get(self._client, ask.source, fields) as answer:
                await self._take(ask, answer, ranged=bool(fields))
            return True
        except UpstreamError as exc:
            changed = isinstance(exc, GenerationChanged)
            if changed:
                self.workflow.restart()
            if changed or exc.retryable:
                slow, now_s = isinstance(exc, UpstreamTimeout), time.monotonic()
                line = self.workflow.faulty(ask, str(exc), slow=slow, started_s=started_s, now_s=now_s)
            else:
                line = self.workflow.refused(ask, str(exc))
            self._reporter.notice(line)
            return False

    async def _take(self, ask: AskRest, answer: Answer, *, ranged: bool) -> None:
        accepted = check_answer(
            asked=Asked(ask.start, None, whole=not ranged),
            status=answer.status,
            fields=answer.fields,
            expected=ask.expected if answer.status == 206 else None,
            accepted_codings=frozenset(),
            immutable=False,
        )
        if accepted.stop is None and "Transfer-Encoding" not in answer.fields:
            raise BadAnswer("the answer has no length, so that its end cannot be told")
        self.workflow.answered(ask, accepted, resume_condition(accepted.validators, answer.fields.value("Date")))
        if accepted.start == 0:
            self._digest, self.resumed_bytes = hashlib.sha256(), 0
            await asyncio.to_thread(self._part.begin, 0)
        self._reporter.begin(accepted.total, self.workflow.have_bytes)
        while data := await answer.read():
            if accepted.stop is not None and self.workflow.have_bytes + len(data) > accepted.stop:
                raise BadAnswer("the body is longer than announced")
            self._digest = await asyncio.to_thread(self._written, data)
            self.workflow.received(ask, len(data))
            self._reporter.advance(len(data))
            if time.monotonic() - self._noted_s > _NOTE_EVERY_S:
                self._noted_s = time.monotonic()
                await asyncio.to_thread(self._part.save_note, self._note())
        if accepted.stop is not None and self.workflow.have_bytes != accepted.stop:
            raise BadAnswer("the body is short", expected=accepted.stop, got=self.workflow.have_bytes)

    def _written(self, data: bytes) -> hashlib._Hash:
        """The digest after ``data``; the caller takes it up only together with the count, also when cancelled."""
        digest = self._digest.copy()
        self._part.write_at(self.workflow.have_bytes, data)
        digest.update(data)
        return digest

    def _note(self) -> SimpleNote | None:
        """The note, or None where the bytes at hand cannot be gone on with."""
        held = self.workflow.generation
        if held is None or held.condition is None or held.length_bytes is None or not self.workflow.have_bytes:
            return None
        return SimpleNote(
            url=self._request.url.shown,
            source=held.source,
            length_bytes=held.length_bytes,
            condition=held.condition,
            etag=held.validators.etag,
            last_modified=held.validators.last_modified,
            have_bytes=self.workflow.have_bytes,
            sha256=self._digest.hexdigest(),
        )
