"""One answer as metrics and logs see it, made when it has ended, or to count what was sent of it so far.

Owns: two values. The fast lane makes one for each hit, so that making it has to be cheap.
"""

from __future__ import annotations

import msgspec

from cacheserver.core.request.client import Client


class RequestLabel(msgspec.Struct, frozen=True, gc=False):
    """The part of a request that is the same in every repeat of it."""

    method: str = "GET"
    service: str = "none"
    """Name of a service; ``none`` where no service admits the request."""
    form: str = ""
    """A word of ``core.request.target.Form``."""
    host: str = ""
    path: str = ""
    """Path and query as the client sent them."""
    user_agent: str | None = None


class AnswerRecord(msgspec.Struct, frozen=True, gc=False):
    """Facts of one answer."""

    request: RequestLabel
    client: Client
    outcome: str
    """A word of ``core.cache.decision.Outcome``."""
    status: int
    body_bytes: int
    """Body bytes that reached the socket."""
    duration_s: float
    first_byte_s: float | None = None
    """From the start to the first byte; None where the first and the last byte went out together."""
    cache_status: str = ""
    range: str | bytes | None = None
    """The Range field; as bytes it is a span without its unit: digits and a hyphen."""
    cut: str | None = None
    """Error code when the connection was cut inside the body."""
    booked_bytes: int = 0
    """Those of ``body_bytes`` that were counted while it was under way."""
