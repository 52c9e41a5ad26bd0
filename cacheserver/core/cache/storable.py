"""Whether an answer may be stored by a shared cache (RFC 9111 §3, §3.5), and which fields must not be kept.

Owns: the storing rules. Must not judge the answer's framing (``core.cache.answer``) or compute lifetimes
(``core.cache.freshness``). no-store and private are honoured for shipped services too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.http.cache_control import CacheControl, request_cache_control, response_cache_control
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import vary_names
from cacheserver.core.request.service import Service

REPRESENTATION: Final = frozenset({200, 206})
"""Statuses of answers with the content, or a part of it."""
_UNDERSTOOD: Final = frozenset({
    200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 409, 410, 411, 412, 413, 414, 415,
    422, 429, 431, 451, 500, 501, 502, 503, 504, 505,
})  # fmt: skip
"""Statuses of which the node knows what follows from them for storing: nothing but what these rules say."""


@dataclass(frozen=True, slots=True)
class Storable:
    """The answer may be stored without the fields named in ``strip`` (lower case, sorted)."""

    strip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotStorable:
    """The answer must pass; ``reason`` is a short stable word for logs and Cache-Status."""

    reason: str


def storability(
    *, method: str, request: Fields, status: int, response: Fields, service: Service
) -> Storable | NotStorable:
    """Judge one answer. ``response`` carries the origin's fields as they came.

    Reasons: ``service``, ``method``, ``no-store``, ``request-no-store``, ``private``, ``must-understand``, ``vary``,
    ``authorization``, ``set-cookie``, ``no-lifetime``.

    An own service's answer with Set-Cookie is stored, cookie included, only when public or s-maxage says that it is
    for everyone; RFC 9111 §7.3 would allow more, but a cookie given to all clients is worse than a miss. A shipped
    service's cookies are stripped.
    """
    directives = response_cache_control(response)
    reason = (
        _refused_by_rule(method, service)
        or _refused_by_origin(directives, status, response)
        or _refused_by_request(directives, request, service)
        or _refused_as_useless(directives, response, service)
    )
    if reason is not None:
        return NotStorable(reason)
    strip = for_one_client(directives)
    if "Set-Cookie" in response:
        if not service.own:
            strip.add("set-cookie")
        elif "set-cookie" not in strip and not _for_everyone(directives):
            return NotStorable("set-cookie")
    return Storable(tuple(sorted(strip)))


def for_one_client(directives: CacheControl) -> set[str]:
    """Names of the fields that are not to be kept: those of the qualified ``private`` and ``no-cache``."""
    lists = (names for names in (directives.private, directives.no_cache) if isinstance(names, tuple))
    return {name for names in lists for name in names}


def _for_everyone(directives: CacheControl) -> bool:
    return directives.public or directives.s_maxage is not None


def _refused_by_rule(method: str, service: Service) -> str | None:
    if not service.cacheable:
        return "service"
    return None if method == "GET" else "method"


def _refused_by_origin(directives: CacheControl, status: int, response: Fields) -> str | None:
    # RFC 9111 §5.2.2.3: must-understand overrides no-store for a status that the cache understands.
    if directives.must_understand and status not in _UNDERSTOOD:
        return "must-understand"
    if directives.no_store and not directives.must_understand:
        return "no-store"
    if directives.private is True:
        return "private"
    return "vary" if vary_names(response) is None else None


def _refused_by_request(directives: CacheControl, request: Fields, service: Service) -> str | None:
    if service.own and request_cache_control(request).no_store:
        return "request-no-store"
    if "Authorization" in request and not (_for_everyone(directives) or directives.must_revalidate):
        return "authorization"
    return None


def _refused_as_useless(directives: CacheControl, response: Fields, service: Service) -> str | None:
    """An answer with neither a lifetime nor anything to revalidate by could never be used again."""
    if service.lifetime == "immutable" or service.heuristic_min_s:
        return None
    if directives.max_age is not None or directives.s_maxage is not None:
        return None
    useful = any(name in response for name in ("Expires", "Last-Modified", "ETag"))
    return None if useful else "no-lifetime"
