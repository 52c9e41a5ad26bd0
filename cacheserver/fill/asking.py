"""Turning a wanted target into an upstream request (I10), and an answer's head into a checked one.

Owns: which fields go up, If-Range, the generation check (I5), asking again without a Range that the source makes
nothing of, and asking again for a generation whose entity tag flips. Must not read bodies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from cacheserver.core.cache.answer import WHOLE, AcceptedAnswer, Asked, check_answer, contradicts_part, range_refusal
from cacheserver.core.cache.generation import ExpectedGeneration, check_generation, resume_condition, validators_of
from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.cache.sources import NODE, ORIGIN, candidates
from cacheserver.core.cache.stand_in import is_stand_in
from cacheserver.core.cache.upstream_request import UpstreamRequest, request_fields_upstream
from cacheserver.core.errors import (
    BadAnswer,
    BadContentRange,
    GenerationChanged,
    NoSource,
    OriginStatus,
    PageInstead,
    UpstreamError,
)
from cacheserver.core.http.cache_status import forwarded_status
from cacheserver.core.http.codings import accepted_codings
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.via import upstream_via
from cacheserver.core.integrity.blame import BLAME, OF_THIS_OBJECT, Blame, Evidence, fault_evidence
from cacheserver.core.request.target import Target
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock, Meter, Upstream, UpstreamAnswer

_log = get_logger(__name__)
_RETAGGED_TRIES = 3
"""Requests for one generation while answers of the same length come with other entity tags."""
_RETAGGED_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Want:
    """A target as one client asked for it; ``fields`` are the client's, of which only some go upstream."""

    target: Target
    fields: Fields
    collapsed: bool = False
    """Whether it has waited for another's opening, and was counted for that."""
    since: int | None = None
    """Number of purges when its request was sent; see ``Store.create``."""


class Asker:
    """Sends constructed requests to the sources of a target."""

    def __init__(self, *, upstream: Upstream, node_id: str, health: SourceHealth, clock: Clock, meter: Meter) -> None:
        self._upstream = upstream
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
        about: str = "",
    ) -> UpstreamAnswer:
        """Send one request with ``extra`` field lines to the best source; returns once the head is there.

        ``about``: the object for which it is asked, where that is another one. Sources in ``avoid`` are asked only when
        there is no other. The origin that the client named is not asked only where it is banned and the content is
        ``verified`` against something authentic. Raises UpstreamError, NoSource when all are banned.
        """
        target, now_s = want.target, self._clock.monotonic_s()
        sources = {source.name: source for source in candidates(target)}
        named = next(source.name for source in sources.values() if source.kind == ORIGIN)
        object_id = about or target.object_id
        order = self._health.order(
            tuple(sources), now_s, object_id=object_id, avoid=avoid, named=named, verified=verified
        )
        if not order:
            raise NoSource("every source of this content is banned for bad bytes", source=target.origin)
        fields = Fields((*self.upstream_fields(want), *extra))
        answer = await self._open(UpstreamRequest(method, sources[order[0]], fields, target.service))
        set_back = named in order[1:] and self._health.is_set_back(named, object_id, now_s)
        if answer.status >= 400 and set_back:
            answer.close()  # another source's word that it has nothing must not refuse what the named origin has
            answer = await self._open(UpstreamRequest(method, sources[named], fields, target.service))
        return answer

    async def _open(self, request: UpstreamRequest) -> UpstreamAnswer:
        """One request to one source, whose health learns how it went."""
        source = request.place
        try:
            answer = await self._upstream.open(request)
            if is_stand_in(request.service, request.place.path_and_query, answer.status, answer.fields):
                answer.close()
                raise PageInstead("HTML in place of the content", source=answer.source)
        except UpstreamError as exc:
            self.faulted(source.name, exc)
            raise
        refused = forwarded_status(answer.fields.value("Cache-Status")) if source.kind == NODE else None
        if refused is not None and answer.status >= 500:  # cache-host form: the node only tells what its source said
            answer.status = refused
            self._health.succeeded(source.name)
        elif meaning_of(answer.status).source_failed:
            self.faulted(source.name, OriginStatus(answer.status))
        else:
            self._health.succeeded(source.name)
        return answer

    def faulted(self, source: str, error: UpstreamError) -> None:
        """A source did not give what was asked of it: what the table of blame says follows."""
        evidence = fault_evidence(error)
        if evidence is not None and BLAME[evidence] is Blame.RETRY:
            self._health.failed(source, self._clock.monotonic_s())

    def blame(self, source: str, evidence: Evidence, object_id: str) -> None:
        """A source gave bytes of an object that are not its content: what the table says follows."""
        blame, now_s, banned = BLAME[evidence], self._clock.monotonic_s(), False
        if evidence in OF_THIS_OBJECT:
            self._health.contradicted(source, object_id, now_s)
        if blame is Blame.STRIKE:
            banned = self._health.strike(source, object_id, now_s)
            self._meter.struck(banned=banned)
        elif blame is Blame.DEMOTE:
            self._health.demote(source, now_s)
        word = "source_banned" if banned else "source_struck" if blame is Blame.STRIKE else "content_contradicted"
        facts = {"source": source, "evidence": evidence.name.lower(), "object_id": object_id}
        event(_log, word, severity=logging.WARNING, **facts)

    async def ask(
        self,
        want: Want,
        asked: Asked,
        *,
        expected: ExpectedGeneration | None = None,
        conditions: tuple[tuple[str, str], ...] = (),
        avoid: frozenset[str] = frozenset(),
        verified: bool = False,
        only_span: bool = False,
    ) -> tuple[UpstreamAnswer, Asked]:
        """Send for a span, once more without Range where the source makes nothing of it; what the answer is to.

        ``only_span``: BadContentRange instead of the second request.
        """
        without_range = tuple(line for line in conditions if line[0] != "If-Range")
        try:
            answer = await self.send(want, extra=(*asked.lines, *conditions), avoid=avoid, verified=verified)
        except BadAnswer as exc:  # not even HTTP
            if asked.whole:
                raise
            if only_span:
                raise BadContentRange(str(exc), source=exc.source) from exc
            return await self.send(want, extra=without_range, avoid=avoid, verified=verified), WHOLE
        total = None if expected is None else expected.length_bytes
        unasked_304 = answer.status == 304 and all(name == "If-Range" for name, _value in conditions)
        try:
            if range_refusal(asked, answer.status, answer.fields, total=total) is None and not unasked_304:
                return answer, asked
        except UpstreamError as exc:
            self._refuse(answer, exc)
            raise
        answer.close()
        if only_span:
            raise BadContentRange("the source makes nothing of a range", source=answer.source)
        whole = await self.send(want, extra=without_range, avoid=avoid, verified=verified)
        if contradicts_part(whole.status, whole.fields, answer.fields):
            error = BadAnswer("the source names two lengths of one content")
            self._refuse(whole, error)
            raise error
        return whole, WHOLE

    async def ask_span(
        self,
        want: Want,
        representation: Representation,
        start: int,
        stop: int,
        avoid: frozenset[str] = frozenset(),
        *,
        verified: bool = False,
        proven: bool = False,
        only_span: bool = False,
    ) -> Opened:
        """Ask for bytes ``[start, stop)`` of a known generation; GenerationChanged when the source has another.

        ``proven``: each byte is compared with a digest before it counts. ``only_span``: see ``ask``.
        """
        expected = ExpectedGeneration(representation.length_bytes, representation.validators, proven)
        date = representation.fields.value("Date")
        return await self.ask_same(want, expected, date, start, stop, avoid, verified=verified, only_span=only_span)

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
        only_span: bool = False,
    ) -> Opened:
        """The same of a generation that nothing is stored of; ``date`` is the Date of the answer that named it.

        A source whose entity tag alone differs is asked again: another of its edges may have given the first one.
        """
        condition = resume_condition(expected.validators, date)
        strict = replace(expected, proven=False)
        conditions = () if condition is None else (("If-Range", condition),)
        for flips in range(_RETAGGED_TRIES):
            answer, asked = await self.ask(
                want,
                Asked(start, stop),
                expected=expected,
                conditions=conditions,
                avoid=avoid,
                verified=verified,
                only_span=only_span,
            )
            try:
                opened = self.checked(want, answer, asked, expected if flips else strict)
            except GenerationChanged as exc:
                if not exc.retagged or flips + 1 == _RETAGGED_TRIES:
                    raise
                conditions = () if expected.proven else conditions
                await asyncio.sleep(_RETAGGED_PAUSE_S)
            else:
                return replace(opened, undivided=answer.status == 200, flips=flips)
        raise AssertionError("the last try returns or raises")

    async def ask_undivided(
        self, want: Want, representation: Representation, avoid: frozenset[str], *, verified: bool = False
    ) -> Opened:
        """Ask for all of a content of a known length; ``retagged`` where it has another entity tag than expected."""
        answer = await self.send(want, avoid=avoid, verified=verified)
        length = representation.length_bytes
        opened = self.checked(want, answer, WHOLE, ExpectedGeneration(length, validators_of(answer.fields)))
        try:
            immutable = want.target.service.lifetime == "immutable"
            known = ExpectedGeneration(length, representation.validators)
            check_generation(known, length, opened.accepted.validators, immutable=immutable)
        except GenerationChanged as exc:
            if not exc.retagged:
                answer.close()
                raise
            return replace(opened, undivided=True, retagged=True)
        return replace(opened, undivided=True)

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
            self._refuse(answer, exc)
            raise
        return Opened(answer, accepted)

    def _refuse(self, answer: UpstreamAnswer, error: UpstreamError) -> None:
        error.source = error.source or answer.source
        self.faulted(answer.asked, error)
        answer.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose head was checked."""

    answer: UpstreamAnswer
    accepted: AcceptedAnswer
    undivided: bool = False
    """Whether the source answers a Range with the whole body, or makes nothing of it."""
    flips: int = 0
    """How many answers with other entity tags came before it."""
    retagged: bool = False
    """Whether its entity tag is not the expected one."""
    same: Callable[[], Awaitable[None]] | None = None
    """Set where its entity tag is another one: what is here is compared with it, and where it is the same, this is
    called."""


Ask = Callable[[int, int, frozenset[str]], Awaitable[Opened]]
"""Ask the sources of an object for bytes ``[start, stop)``, some only if there is no other."""
