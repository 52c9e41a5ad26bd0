"""Turning a wanted target into an upstream request (I10), and an answer's head into a checked one.

Owns: which fields go up, If-Range, the generation check (I5). Must not read bodies.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core.answer import Asked, ExpectedGeneration, check_answer, resume_condition
from cacheserver.core.codings import accepted_codings
from cacheserver.core.errors import UpstreamError
from cacheserver.core.fields import Fields
from cacheserver.core.representation import Representation
from cacheserver.core.response_fields import request_fields_upstream
from cacheserver.core.target import Target
from cacheserver.core.upstream_request import UpstreamRequest
from cacheserver.core.via import upstream_via
from cacheserver.fill.flight import Opened
from cacheserver.ports import Upstream, UpstreamAnswer


@dataclass(frozen=True, slots=True)
class Want:
    """A target as one client asked for it; ``fields`` are the client's, of which only some go upstream."""

    target: Target
    fields: Fields


class Asker:
    """Sends constructed requests to the sources of a target."""

    def __init__(self, *, upstream: Upstream, node_id: str) -> None:
        self._upstream = upstream
        self._node_id = node_id

    def upstream_fields(self, want: Want) -> Fields:
        """The fields that every request for this want carries."""
        fields = request_fields_upstream(want.fields, want.target.service)
        if "Accept-Encoding" not in fields:
            fields = fields.with_line("Accept-Encoding", "identity")
        return fields.with_line("Via", upstream_via(want.fields, self._node_id))

    async def send(self, want: Want, *, method: str = "GET", extra: tuple[tuple[str, str], ...] = ()) -> UpstreamAnswer:
        """Send one request with ``extra`` field lines; returns once the head is there. UpstreamError."""
        target = want.target
        request = UpstreamRequest(
            method=method,
            scheme=target.scheme,
            host=target.host,
            port=target.port,
            path_and_query=target.path_and_query,
            fields=Fields((*self.upstream_fields(want), *extra)),
            service=target.service,
        )
        return await self._upstream.open(request)

    async def ask_span(self, want: Want, representation: Representation, start: int, stop: int) -> Opened:
        """Ask for bytes ``[start, stop)`` of a known generation; GenerationChanged when the source has another."""
        extra = [("Range", f"bytes={start}-{stop - 1}")]
        condition = resume_condition(representation.validators, representation.fields.value("Date"))
        if condition is not None:
            extra.append(("If-Range", condition))
        answer = await self.send(want, extra=tuple(extra))
        expected = ExpectedGeneration(representation.length_bytes, representation.validators)
        return self.checked(want, answer, Asked(start, stop), expected)

    def checked(
        self, want: Want, answer: UpstreamAnswer, asked: Asked, expected: ExpectedGeneration | None = None
    ) -> Opened:
        """Check a head against what was asked; closes the answer and raises when it does not hold."""
        try:
            accepted = check_answer(
                asked=asked,
                status=answer.status,
                fields=answer.fields,
                expected=expected,
                accepted_codings=accepted_codings(self.upstream_fields(want).value("Accept-Encoding")),
                immutable=want.target.service.lifetime == "immutable",
            )
        except UpstreamError as exc:
            exc.source = exc.source or answer.source
            answer.close()
            raise
        return Opened(answer, accepted, ranged=not asked.whole)
