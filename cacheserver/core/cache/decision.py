"""What to do with a request, given what is stored: a pure decision, made before anything is awaited.

Owns: the choice between serving, revalidating, opening and passing. Must not fetch, read or send.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cacheserver.core.cache.freshness import Freshness
from cacheserver.core.http.cache_control import CacheControl
from cacheserver.core.request.service import Service


class Outcome(Enum):
    """How an answer came about; the word of access log and metrics."""

    HIT = "hit"
    PARTIAL = "partial"
    MISS = "miss"
    STALE = "stale"
    REVALIDATED = "revalidated"
    PASS = "pass"
    REFUSED = "refused"
    ERROR = "error"


class Step(Enum):
    """What to do next."""

    SERVE = "serve"
    """The stored object as it is."""
    SERVE_STALE = "serve-stale"
    """The stored object now; ask the origin behind."""
    REVALIDATE = "revalidate"
    """Ask the origin first."""
    OPEN = "open"
    """Nothing is stored: ask, store, serve."""
    PASS = "pass"
    """Through to the origin, nothing stored."""
    ONLY_IF_CACHED = "only-if-cached"
    """Nothing usable is stored and the client forbade asking (RFC 9111 §5.2.1.7): 504."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision rests on; ``freshness`` is None when nothing is stored."""

    method: str
    service: Service
    freshness: Freshness | None
    passes: bool
    """The answer to this request could not be stored a moment ago."""
    request: CacheControl


def decide(facts: Facts) -> Step:
    """The next step for one request."""
    if not facts.service.cacheable:
        return Step.PASS
    only_if_cached = facts.service.lifetime == "rfc" and facts.request.only_if_cached
    if facts.freshness is None:
        if only_if_cached:
            return Step.ONLY_IF_CACHED
        return Step.PASS if facts.passes or facts.method == "HEAD" else Step.OPEN
    if facts.freshness.fresh:
        return Step.SERVE
    if facts.freshness.stale_while_revalidate:
        return Step.SERVE_STALE
    return Step.ONLY_IF_CACHED if only_if_cached else Step.REVALIDATE
