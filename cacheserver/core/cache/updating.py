"""What an answer about a stored representation changes of it (RFC 9111 §3.2, §3.4, §4.3.4).

Owns: the fields and times after a 304, a later part or a full answer of the same generation, and whether it may still
be kept. Must not ask whether the answer is of the same generation (``core.cache.generation``). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cacheserver.core.cache.freshness import received_age_s
from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.storable import NotStorable, for_one_client, storability
from cacheserver.core.http.cache_control import response_cache_control
from cacheserver.core.http.field_rules import merge_304, storable_fields
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.http.vary import vary_names
from cacheserver.core.request.service import Service

_FORBIDDEN = frozenset({"no-store", "private", "vary"})
_OF_CACHING = ("Cache-Control", "Expires", "Vary")


@dataclass(frozen=True, slots=True)
class Update:
    """An answer about a stored representation, and when it came; ``secure``: over TLS on every hop."""

    fields: Fields
    request_time_s: float
    response_time_s: float
    secure: bool


def updated(known: Representation, update: Update, *, request: Fields, service: Service) -> tuple[Representation, bool]:
    """The representation after an answer that says: what is stored still holds; and whether it may still be kept.

    What may not be kept is not to be used again without asking.

    ``request``: the fields that the answer was for.
    """
    merged = merge_304(known.fields, storable_fields(update.fields))
    verdict = storability(method="GET", request=request, status=200, response=merged, service=service)
    forbidden = isinstance(verdict, NotStorable) and verdict.reason in _FORBIDDEN
    kept = not forbidden and vary_names(merged) == known.vary
    stripped = merged.without(*for_one_client(response_cache_control(merged)))
    refreshed = known.refreshed(
        dated(stripped, update.response_time_s),
        request_time_s=update.request_time_s - received_age_s(update.fields),
        response_time_s=update.response_time_s,
    )
    return replace(refreshed, secure=known.secure and update.secure, invalidated=not kept), kept


def speaks_anew(known: Representation, update: Fields) -> bool:
    """Whether a later part says something else of caching than what is stored."""
    return any(update.value(name) not in (None, known.fields.value(name)) for name in _OF_CACHING)


def dated(fields: Fields, response_time_s: float) -> Fields:
    """With a Date where the origin sent none (RFC 9110 §6.6.1)."""
    return fields if "Date" in fields else fields.with_line("Date", format_http_date(response_time_s))
