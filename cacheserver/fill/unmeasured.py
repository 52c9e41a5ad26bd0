"""Answers without a length: collected where they are short, counted where a client cannot do without a length.

Owns: how the length becomes known. Only a chunked body has an end that can be trusted (RFC 9112 §8). Must not store.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cacheserver.core.cache.answer import WHOLE, AcceptedAnswer, Asked
from cacheserver.core.cache.generation import ExpectedGeneration
from cacheserver.core.errors import BadAnswer
from cacheserver.core.request.target import Form
from cacheserver.fill.answer_facts import AnswerFacts
from cacheserver.fill.asking import Asker, Opened, Want
from cacheserver.fill.outcome import Relayed
from cacheserver.fill.relay.body_buffer import BodyBuffer, Collected
from cacheserver.ports import UpstreamAnswer


class Unmeasured:
    """Finds lengths; ``first_byte_s`` is what a client waits at most."""

    def __init__(self, *, asker: Asker, buffer: BodyBuffer, first_byte_s: float) -> None:
        self._asker = asker
        self._buffer = buffer
        self._first_byte_s = first_byte_s

    async def measure(self, want: Want, opened: Opened, asked: Asked) -> Opened | Relayed:
        """The same content with a length; ``Relayed`` where the client gets it as it comes. UpstreamError."""
        answer = opened.answer
        if "Transfer-Encoding" not in answer.fields:
            return Relayed(answer, asked, "close_delimited", remember=True)
        began_s = asyncio.get_running_loop().time()
        body = await self._buffer.collect(answer, want.client, limit_s=self._first_byte_s / 2)
        if body.complete:
            whole = AcceptedAnswer(0, len(body.data), len(body.data), opened.accepted.validators)
            return replace(opened, answer=_BufferedAnswer(answer, body), accepted=whole)
        body.lease.close()
        if want.target.form is not Form.CACHE_HOST:
            return Relayed(answer, asked, "no_length", remember=True, prefix=body.data)
        length = len(body.data) + await _counted(answer, began_s + self._first_byte_s * 3 / 4)
        return await self._asked_again(want, opened, length)

    async def _asked_again(self, want: Want, opened: Opened, length: int) -> Opened:
        """A second answer of the same generation, whose body has the length of the first one's, or breaks."""
        answer = await self._asker.send(want)
        expected = ExpectedGeneration(length, opened.accepted.validators)
        again = self._asker.checked(want, answer, WHOLE, expected)
        return replace(again, accepted=replace(again.accepted, stop=length, total=length), undivided=True)


async def _counted(answer: UpstreamAnswer, until_s: float) -> int:
    """Bytes to the end of a body, which are dropped. BadAnswer when that takes too long."""
    size = 0
    try:
        while data := await answer.read():
            size += len(data)
            if asyncio.get_running_loop().time() > until_s:
                error = BadAnswer("origin names no length, and the answer is too long to count", source=answer.source)
                error.retryable = False
                raise error
    finally:
        answer.close()
    return size


class _BufferedAnswer(AnswerFacts):
    """An answer whose body is in memory already."""

    def __init__(self, answer: UpstreamAnswer, body: Collected) -> None:
        super().__init__(answer)
        self.status = 200
        self.fields = answer.fields.without("Transfer-Encoding").with_line("Content-Length", str(len(body.data)))
        self._body = body.data
        self._lease = body.lease

    async def read(self) -> bytes:
        """The whole body, then nothing."""
        body, self._body = self._body, b""
        if not body:
            self._lease.close()
        return body

    def close(self) -> None:
        """Let the body go."""
        self._body = b""
        self._lease.close()
