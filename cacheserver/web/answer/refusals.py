"""The one place that turns an error into an answer.

Owns: the form of that answer, and the rule of Delivery Optimization that a 4xx bans this node for an origin
(I8), so that passing faults are 5xx in cache-host form. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cacheserver.core.errors import CacheserverError, OriginStatus
from cacheserver.core.request.target import Form


@dataclass(frozen=True, slots=True)
class Refusal:
    """Status, one line of text, extra field lines, and whether the connection ends with it."""

    status: int
    text: str
    extra: tuple[tuple[str, str], ...] = ()
    close: bool = False


def refusal_for(error: CacheserverError) -> Refusal:
    """The answer for an error that came before the head went out."""
    retry = (("Retry-After", "5"),) if error.own_status == 503 else ()
    if isinstance(error, OriginStatus) and re.fullmatch("[0-9]{1,6}", error.retry_after or ""):
        retry = (("Retry-After", error.retry_after or ""),)
    return Refusal(error.own_status, f"{error}{error.hint}\n", extra=retry + error.own_fields, close=error.closes)


def relays_status(status: int, form: Form, *, cache_host_errors: str, host_errors: str) -> bool:
    """Whether an origin's refusal goes to the client with its own status.

    In cache-host form a 4xx would ban this node for the origin, so by default it becomes a 502 that names the status.
    A 416 is the exception: it says something of the client's range, not of the file.
    """
    if status == 416 or status < 400:
        return True
    return (cache_host_errors if form is Form.CACHE_HOST else host_errors) == "relay"
