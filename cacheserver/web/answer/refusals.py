"""The one table that turns an error into an answer.

Owns: status and text per error class, and the rule of Delivery Optimization that a 4xx bans this node for an origin
(I8), so that passing faults are 5xx in cache-host form. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.core import errors
from cacheserver.core.request.target import Form

_STATUS: tuple[tuple[type[errors.CacheserverError], int], ...] = (
    (errors.HostNotAllowed, 403),
    (errors.MethodNotAllowed, 405),
    (errors.BodyRefused, 413),
    (errors.LoopDetected, 508),
    (errors.Draining, 503),
    (errors.RequestError, 400),
    (errors.UpstreamTimeout, 504),
    (errors.ResolveFailed, 502),
    (errors.UpstreamError, 502),
    (errors.StoreError, 503),
    (errors.CacheserverError, 500),
)
"""First match wins."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Status, one line of text, extra field lines, and whether the connection ends with it."""

    status: int
    text: str
    extra: tuple[tuple[str, str], ...] = ()
    close: bool = False


def refusal_for(error: errors.CacheserverError) -> Refusal:
    """The answer for an error that came before the head went out."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if isinstance(error, errors.HostNotAllowed):
        hint = f"; allow it with --allow {error.host} or a [services] entry"
        return Refusal(status, f"{error}{hint}\n")
    if isinstance(error, errors.MethodNotAllowed):
        return Refusal(status, f"{error}\n", extra=(("Allow", "GET, HEAD"),), close=True)
    close = isinstance(error, errors.MalformedRequest | errors.BodyRefused)
    extra = (("Retry-After", "5"),) if status == 503 else ()
    return Refusal(status, f"{error}\n", extra=extra, close=close)


def relays_status(status: int, form: Form, *, cache_host_errors: str, host_errors: str) -> bool:
    """Whether an origin's refusal goes to the client with its own status.

    In cache-host form a 4xx would ban this node for the origin, so by default it becomes a 502 that names the status.
    A 416 is the exception: it says something of the client's range, not of the file.
    """
    if status == 416 or status < 400:
        return True
    return (cache_host_errors if form is Form.CACHE_HOST else host_errors) == "relay"
