"""Turning a wanted target into an upstream request (I10), and an answer's head into a checked one.

Owns: which fields go up, If-Range, the generation check (I5). Must not read bodies.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cacheserver.core.cache.answer import AcceptedAnswer, Asked, ExpectedGeneration, check_answer, resume_condition
from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.cache.sources import ORIGIN, candidates
from cacheserver.core.cache.upstream_request import UpstreamRequest, request_fields_upstream
from cacheserver.core.errors import NoSource, UpstreamError
from cacheserver.core.http.codings import accepted_codings
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.via import upstream_via
from cacheserver.core.integrity.blame import BLAME, Blame, Evidence
from cacheserver.core.request.target import Target
from cacheserver.fill.slots import Errand, HeldAnswer, Slots
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter, Upstream, UpstreamAnswer

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Want:
    """A target as one client asked for it; ``fields`` are the client's, of which only some go upstream."""

    target: Target
    fields: Fields
    collapsed: bool = False
    """Whether it has waited for another's opening, and was counted for that."""
    client: str = ""
    """Who asks, as ``core.request.client_shares`` names it; empty: the node itself."""
    since: int | None = None
    """Number of purges when its request was sent; see ``Store.create``."""


class Asker:
    """Sends constructed requests to the sources of a target, each in a slot that its answer holds to its end."""

    def __init__(
        self, *, upstream: Upstream, slots: Slots, node_id: str, health: SourceHealth, clock: Clock, meter: Meter
    ) -> None:
        self._upstream = upstream
        self.slots = slots
        self._node_id = node_id
        self._health = health
        self._clock = clock
        self._meter = meter

    def upstream_fields(self, want: Want) -> Fields:
        """The fields that every request for this want carries."""
        fields = request_fields_upstream(want.fields, want.target.service)
        if "Accept-Encoding" not in fields:
            fields = fields.with_line("Accept-Encoding", "identity")
        return fields.with_line("Via", upstream_via(want.fields, self._node_id))

    async def send(
        self,
        want: Want,
        *,
        method: str = "GET",
        extra: tuple[tuple[str, str], ...] = (),
        avoid: frozenset[str] = frozenset(),
        verified: bool = False,
        errand: Errand | None = None,
        span: tuple[int, int] = (0, 0),
    ) -> UpstreamAnswer:
        """Send one request with ``extra`` field lines to the best source; returns once the head is there.

        It waits its turn, as that of ``errand``, or of the want's client; ``span`` are the bytes that it asks for.
        Sources in ``avoid`` are asked only when there is no other. The origin that the client named is not asked only
        where it is banned and the content is ``verified`` against something authentic. Raises UpstreamError, NoSource
        when all are banned.
        """
        errand = errand or Errand(want.client)
        slot, errand.slot = errand.slot, None
        if slot is None:
            target, (start, stop) = want.target, span
            slot = await self.slots.take(target.origin, target.object_id, errand, at=start, cost_bytes=stop - start)
        try:
            errand.check()
            return HeldAnswer(await self._send(want, method, extra, avoid, verified=verified), slot)
        except BaseException:
            slot.give_back()
            raise

    async def _send(
        self, want: Want, method: str, extra: tuple[tuple[str, str], ...], avoid: frozenset[str], *, verified: bool
    ) -> UpstreamAnswer:
        target, now_s = want.target, self._clock.monotonic_s()
        sources = {source.name: source for source in candidates(target)}
        named = next(source.name for source in sources.values() if source.kind == ORIGIN)
        order = self._health.order(tuple(sources), now_s, avoid=avoid, named=named, verified=verified)
        if not order:
            raise NoSource("every source of this content is banned for bad bytes", source=target.origin)
        fields = Fields((*self.upstream_fields(want), *extra))
        answer = await self._open(UpstreamRequest(method, sources[order[0]], fields, target.service))
        if answer.status >= 400 and named in order[1:] and self._health.is_banned(named, now_s):
            answer.close()  # another source's word that it has nothing must not refuse what the named origin has
            answer = await self._open(UpstreamRequest(method, sources[named], fields, target.service))
        return answer

    async def _open(self, request: UpstreamRequest) -> UpstreamAnswer:
        """One request to one source, whose health learns how it went."""
        source = request.place
        try:
            answer = await self._upstream.open(request)
        except UpstreamError:
            self._health.failed(source.name, self._clock.monotonic_s())
            raise
        if meaning_of(answer.status).source_failed:
            self._health.failed(source.name, self._clock.monotonic_s())
        else:
            self._health.succeeded(source.name)
        return answer

    def blame(self, source: str, evidence: Evidence, object_id: str) -> None:
        """A source gave bytes of an object that are not its content: what the table says follows."""
        blame, now_s, banned = BLAME[evidence], self._clock.monotonic_s(), False
        if blame is Blame.STRIKE:
            banned = self._health.strike(source, object_id, now_s)
            self._meter.struck(banned=banned)
        elif blame is Blame.DEMOTE:
            self._health.demote(source, now_s)
        word = "source_banned" if banned else "source_struck" if blame is Blame.STRIKE else "content_contradicted"
        facts = {"source": source, "evidence": evidence.name.lower(), "object_id": object_id}
        event(_log, word, severity=logging.WARNING, **facts)

    async def ask_span(
        self,
        want: Want,
        representation: Representation,
        start: int,
        stop: int,
        avoid: frozenset[str] = frozenset(),
        *,
        verified: bool = False,
        errand: Errand | None = None,
    ) -> Opened:
        """Ask for bytes ``[start, stop)`` of a known generation; GenerationChanged when the source has another."""
        expected = ExpectedGeneration(representation.length_bytes, representation.validators)
        date = representation.fields.value("Date")
        return await self.ask_same(want, expected, date, start, stop, avoid, verified=verified, errand=errand)

    async def ask_same(
        self,
        want: Want,
        expected: ExpectedGeneration,
        date: str | None,
        start: int,
        stop: int,
        avoid: frozenset[str],
        *,
        verified: bool = False,
        errand: Errand | None = None,
    ) -> Opened:
        """The same of a generation that nothing is stored of; ``date`` is the Date of the answer that named it."""
        extra = [("Range", f"bytes={start}-{stop - 1}")]
        condition = resume_condition(expected.validators, date)
        if condition is not None:
            extra.append(("If-Range", condition))
        answer = await self.send(
            want, extra=tuple(extra), avoid=avoid, verified=verified, errand=errand, span=(start, stop)
        )
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


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose head was checked."""

    answer: UpstreamAnswer
    accepted: AcceptedAnswer
    ranged: bool
    """Whether a Range was asked for."""

    @property
    def range_ignored(self) -> bool:
        """Whether the source answers Range with the whole body."""
        return self.ranged and self.answer.status == 200


Ask = Callable[[int, int, frozenset[str]], Awaitable[Opened]]
"""Ask the sources of an object for bytes ``[start, stop)``, some only if there is no other."""
