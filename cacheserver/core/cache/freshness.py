"""Age, lifetime and staleness of a stored representation (RFC 9111 §4.2, §5.2; RFC 5861).

Owns: the arithmetic and what may be served without asking the origin. Must not read a clock: every call gets
``now_s``, Unix seconds. All times are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.cache_control import CacheControl, parse_delta_seconds, response_cache_control
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import parse_http_date
from cacheserver.core.request.service import Service

SHORT_MAX_AGE_S = 3600
"""An origin that gives less than this to an immutable service's path marks it as mutable."""

HEURISTIC_SHARE = 0.1
"""Share of the time since Last-Modified that RFC 9111 §4.2.2 calls typical."""

HEURISTIC_MAX_S = 86_400.0
"""Most that is guessed; a longer lifetime needs the origin's word."""

_CLOCKS_S = 60.0
"""Seconds by which a clock is set right in passing."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What may be done with a stored representation now. ``lifetime_s`` may be ``math.inf``."""

    age_s: float
    lifetime_s: float
    fresh: bool
    """It may be served as it is."""
    stale_while_revalidate: bool
    """Not fresh, but it may be served now while it is revalidated behind."""
    stale_if_error: bool
    """Not fresh, but it may be served when the origin fails."""
    forced: bool = False
    """Not fresh for this client alone, by its own directives."""


def received_age_s(response: Fields) -> int:
    """The Age of an answer as it came; 0 where absent or invalid, the first member of several (RFC 9111 §5.1).

    Stored fields carry no Age. Whoever stores an answer takes this off ``request_time_s``: the age counts from there,
    so that ``current_age_s`` is what it would be with the field.
    """
    first = (response.first("Age") or "").partition(",")[0].strip(" \t")
    return parse_delta_seconds(first) or 0


def current_age_s(rep: Representation, now_s: float) -> float:
    """Age of the representation (RFC 9111 §4.2.3), never negative.

    An Age field counts where ``rep.fields`` still has one. No difference of clocks is taken as negative, so a clock
    that jumps back makes nothing younger than it was on arrival.
    """
    delay_s = max(0.0, rep.response_time_s - rep.request_time_s)
    apparent_s = max(0.0, rep.response_time_s - _date_s(rep.fields, rep.response_time_s))
    resident_s = max(0.0, now_s - rep.response_time_s)
    return max(apparent_s, received_age_s(rep.fields) + delay_s) + resident_s


def is_mutable(service: Service, path: str) -> bool:
    """Whether ``path`` matches a glob of ``service.mutable``.

    The path (decoded or not, a query is ignored) is matched as a whole and by its last segment, both without case;
    ``*`` also matches ``/``. So ``*.cab`` covers every cab file, ``/a/*`` everything below ``/a/``.
    """
    whole = unquote(path.partition("?")[0]).lower()
    last = whole.rpartition("/")[2]
    globs = [pattern.lower() for pattern in service.mutable]
    return any(fnmatchcase(whole, glob) or fnmatchcase(last, glob) for glob in globs)


def lifetime_s(rep: Representation, service: Service, path: str) -> float:
    """Freshness lifetime under the service's rule.

    ``immutable``: ``math.inf``, but for mutable paths (``is_mutable``, or the origin says no-cache or gives less than
    an hour) ``mutable_lifetime_s``, capped by the origin's s-maxage or max-age. ``rfc``: RFC 9111 §4.2.1 and §4.2.2.
    """
    directives = response_cache_control(rep.fields)
    explicit = directives.max_age if directives.s_maxage is None else directives.s_maxage
    if service.lifetime == "rfc":
        modified, floor_s = rep.validators.last_modified, service.heuristic_min_s
        return fields_lifetime_s(rep.fields, rep.response_time_s, modified, floor_s=floor_s) or 0.0
    short = explicit is not None and explicit < SHORT_MAX_AGE_S
    if not (short or directives.no_cache is True or is_mutable(service, path)):
        return math.inf
    return float(service.mutable_lifetime_s if explicit is None else min(service.mutable_lifetime_s, explicit))


def explicit_lifetime_s(fields: Fields, response_time_s: float) -> float | None:
    """The lifetime that an answer states for a shared cache (RFC 9111 §4.2.1); None where it states none."""
    directives = response_cache_control(fields)
    if directives.no_cache is True:
        return 0.0
    explicit = directives.max_age if directives.s_maxage is None else directives.s_maxage
    if explicit is not None:
        return float(explicit)
    if "Expires" not in fields:
        return None
    # Several lines: the earliest. An invalid one, "0" above all, means already expired (RFC 9111 §5.3).
    date_s = _date_s(fields, response_time_s)
    expiries = [parse_http_date(line, now_s=response_time_s) for line in fields.lines("Expires")]
    return max(0.0, min(0.0 if expiry is None else expiry - date_s for expiry in expiries))


def fields_lifetime_s(
    fields: Fields, response_time_s: float, modified: str | None = None, *, floor_s: float = 0.0
) -> float | None:
    """The same, else a guess by Last-Modified (§4.2.2), never from a prohibition; None where nothing is to go by.

    ``floor_s``: the least that is guessed, with or without Last-Modified.
    """
    explicit_s = explicit_lifetime_s(fields, response_time_s)
    if explicit_s is not None:
        return explicit_s
    directives = response_cache_control(fields)
    if directives.no_store or directives.private is True:
        return 0.0
    text = fields.last("Last-Modified") or modified
    modified_s = None if text is None else parse_http_date(text, now_s=response_time_s)
    if modified_s is None:
        return floor_s or None
    share_s = (_date_s(fields, response_time_s) - modified_s) * HEURISTIC_SHARE
    return max(floor_s, min(share_s, HEURISTIC_MAX_S))


def assess(rep: Representation, service: Service, path: str, request: CacheControl, now_s: float) -> Freshness:
    """What may be done with ``rep`` for a request with the directives ``request`` at ``now_s``.

    The request's directives count for ``rfc`` services only; ``immutable`` ones have their own stale windows. Nothing
    stale is allowed by must-revalidate, proxy-revalidate, s-maxage or no-cache (RFC 9111 §4.2.4), nor by a client's
    no-cache; an invalidated representation is neither fresh nor usable stale. A client's max-stale shows as
    ``stale_while_revalidate``.
    """
    asked = request if service.lifetime == "rfc" else CacheControl()
    directives = response_cache_control(rep.fields)
    age, lifetime = current_age_s(rep, now_s), lifetime_s(rep, service, path)
    if rep.response_time_s - now_s > _CLOCKS_S and lifetime < math.inf:
        age = max(age, lifetime)  # it came when the machine's clock ran ahead: nobody knows how long ago
    usable = not rep.invalidated and asked.no_cache is not True
    young_enough = asked.max_age is None or age <= asked.max_age
    fresh_enough = asked.min_fresh is None or lifetime - age >= asked.min_fresh
    fresh = usable and age < lifetime and young_enough and fresh_enough
    forced = not fresh and not rep.invalidated and age < lifetime
    if fresh or not usable or _forbids_stale(directives):
        return Freshness(age, lifetime, fresh, False, False, forced)
    staleness = max(0.0, age - lifetime)
    revalidate_s, error_s = _stale_windows_s(service, directives, asked)
    at_once = staleness <= max(revalidate_s, _or_never(asked.max_stale))
    return Freshness(
        age,
        lifetime,
        fresh=False,
        stale_while_revalidate=at_once and young_enough and asked.min_fresh is None,
        stale_if_error=staleness <= max(error_s, _or_never(asked.max_stale)),
        forced=forced,
    )


def _stale_windows_s(service: Service, directives: CacheControl, asked: CacheControl) -> tuple[float, float]:
    """How stale an answer may be served: while revalidating, and on an error; ``-inf`` for never.

    An origin that fails counts as one that cannot be reached (RFC 9111 §4.3.3, §4.2.4): the service says for how long,
    where the answer's own directive does not.
    """
    set_s = _or_never(service.stale_if_error_s or None)
    if service.lifetime == "rfc":
        own_s = set_s if directives.stale_if_error is None else float(directives.stale_if_error)
        return _or_never(directives.stale_while_revalidate), max(own_s, _or_never(asked.stale_if_error))
    return _or_never(service.stale_while_revalidate_s or None), set_s


def _or_never(seconds: int | None) -> float:
    return -math.inf if seconds is None else float(seconds)


def _forbids_stale(directives: CacheControl) -> bool:
    return (
        directives.must_revalidate
        or directives.proxy_revalidate
        or directives.s_maxage is not None
        or directives.no_cache is True
    )


def _date_s(fields: Fields, response_time_s: float) -> float:
    """The answer's Date; the time of its arrival where it has no valid one (RFC 9110 §6.6.1)."""
    date = fields.first("Date")
    date_s = None if date is None else parse_http_date(date, now_s=response_time_s)
    return response_time_s if date_s is None else date_s
