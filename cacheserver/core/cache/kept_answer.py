"""Answers of an origin that are no representation and are kept all the same: RFC 9111 §3 and §4.2.2 for other statuses.

Owns: which of them are kept for other clients, for whom, and until when they are fresh. A status says nothing of
whether it may be kept: its fields do, and without a lifetime in them only some statuses are guessed at. Shipped
services are not meant: what a CDN says of its errors is not what their clients need. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from cacheserver.core.cache.freshness import explicit_lifetime_s, fields_lifetime_s, received_age_s
from cacheserver.core.cache.generation import validators_of
from cacheserver.core.cache.origin_status import StatusMeaning, meaning_of
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.storable import REPRESENTATION, NotStorable, storability
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import variant_key, vary_names
from cacheserver.core.request.target import Target

_HEURISTIC: Final = frozenset({203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110 §15.1, less those of a representation."""
_OF_THE_REQUEST: Final = frozenset({304, 407, 416})
"""Answers to what one request has besides its target."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The origin's own small final answer that is no representation: an error page, an unsatisfied range.

    ``fields`` are end to end; times are of the wall clock, in seconds.
    """

    status: int
    fields: Fields
    body: bytes
    source: str
    """``scheme://host:port`` that gave it."""
    request_time_s: float
    response_time_s: float

    @property
    def meaning(self) -> StatusMeaning:
        """Whom the status concerns, and whether asking again can help."""
        return meaning_of(self.status)

    @property
    def kept_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.fields)


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """``head`` holds what its freshness rests on; ``selecting`` is what the next request must have in common."""

    answered: Answered
    head: Representation
    selecting: str

    def selected_by(self, fields: Fields) -> bool:
        """Whether a request with these fields would get it (RFC 9111 §4.1)."""
        return variant_key("", self.head.vary, fields) == self.selecting


def kept_answer(given: Answered, target: Target, request: Fields) -> KeptAnswer | None:
    """The answer as it is kept, to a GET for ``target`` with the fields ``request``; None where it may not be."""
    service, fields = target.service, given.fields
    if service.lifetime != "rfc" or given.status in REPRESENTATION | _OF_THE_REQUEST:
        return None
    verdict = storability(method="GET", request=request, status=given.status, response=fields, service=service)
    if isinstance(verdict, NotStorable) or _lifetime_s(given, floor_s=service.heuristic_min_s) <= 0:
        return None
    names = vary_names(fields) or ()
    given = replace(given, fields=fields.without(*verdict.strip, "age"))
    head = Representation(
        key=target.key,
        object_id=target.object_id,
        service=service.name,
        length_bytes=len(given.body),
        piece_size_bytes=1,
        fields=given.fields,
        validators=validators_of(fields),
        request_time_s=given.request_time_s - received_age_s(fields),
        response_time_s=given.response_time_s,
        origin=target.origin,
        vary=names,
    )
    return KeptAnswer(given, head, variant_key("", names, request))


def _lifetime_s(given: Answered, *, floor_s: float) -> float:
    if given.status in _HEURISTIC:
        return fields_lifetime_s(given.fields, given.response_time_s, floor_s=floor_s) or 0.0
    return explicit_lifetime_s(given.fields, given.response_time_s) or 0.0
