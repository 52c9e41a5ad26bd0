"""Protocols between packages; no behaviour.

``fill`` and ``web`` are written against these; ``store``, ``upstream`` and ``metrics`` provide them; ``node`` puts
them together.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Statements
from cacheserver.core.request.answer_record import AnswerRecord
from cacheserver.core.request.target import Target


class Clock(Protocol):
    """Time, so that tests can make it."""

    def wall_s(self) -> float:
        """Unix time in seconds; may jump."""

    def monotonic_s(self) -> float:
        """Seconds that never go back."""


class Meter(Protocol):
    """Where packages report what happened. Every call is cheap (≤ 1 µs) and never raises."""

    @property
    def answered(self) -> Callable[[AnswerRecord], None]:
        """Counts one finished answer."""

    @property
    def booked(self) -> Callable[[AnswerRecord], None]:
        """Counts the bytes of an answer that is under way, but for its ``booked_bytes``."""

    def refused(self, reason: str) -> None:
        """One refusal; ``reason`` is an error's ``code``."""

    def connection_refused(self, limit: str) -> None:
        """One connection too many, of one ``client`` or in ``all``, or an ``idle`` one closed for another."""

    def upstream_request(self, service: str, source_class: str, result: str) -> None:
        """One upstream answer; ``source_class`` as in ``core.cache.sources``, ``result`` ok, not_modified or a code."""

    def upstream_bytes(self, service: str, source_class: str, body_bytes: int) -> None:
        """Body bytes received from a source of that class."""

    def fill_started(self) -> None:
        """One upstream fill request began."""

    def fill_ended(self) -> None:
        """It ended, however."""

    def collapsed(self) -> None:
        """One request waited for a fill that another request had started."""

    def verified(self, level: str, result: str) -> None:
        """One piece checked; ``level`` is ``at_rest``, ``self_consistent`` or ``anchored``; ``result`` ok or bad."""

    def content_refused(self, reason: str) -> None:
        """A piece or a content was not let out; ``reason``: one of ``core.integrity.release.REFUSED``."""

    def manifest(self, result: str) -> None:
        """One manifest look-up: a trust level, ``absent``, ``refused``, ``contradicts`` or ``timeout``."""

    def struck(self, *, banned: bool) -> None:
        """A source gave a bad piece; ``banned``: it is not asked any more for a while."""

    def evicted(self, volume: str, reason: str, freed_bytes: int) -> None:
        """Space given back on a volume, named by its path; ``reason``: see ``metrics.table``."""


Take = Callable[[socket.socket, int], Awaitable[int]]
"""Receives body bytes from a non-blocking socket, so many at the most: how many, 0 where none are there yet, EOFError
at the end of the connection."""


class UpstreamAnswer(Protocol):
    """A source's answer whose head has come and whose body is still on the wire."""

    status: int
    fields: Fields
    """All field lines as sent."""
    source: str
    """``scheme://host:port`` of the last hop."""
    asked: str
    """``scheme://host:port`` of the source that was asked, before any redirect: the one that earns strikes."""
    source_class: str
    """Which kind of source was asked; one of ``core.cache.sources.SOURCE_CLASSES``."""
    secure: bool
    """Whether TLS carried it on every hop, from a source that is no other cache node: what it says is authentic."""
    request_time_s: float
    """Wall clock when the request was sent."""
    response_time_s: float
    """Wall clock when the head had come."""

    async def read(self) -> bytes:
        """The next body bytes as they come; empty at the end. TruncatedBody, UpstreamTimeout."""

    async def receive(self, take: Take, most: int) -> int | None:
        """Have ``take`` receive the next body bytes, at most so many; how many. TruncatedBody, UpstreamTimeout.

        None, at any time, where ``read`` has to give them.
        """

    def close(self) -> None:
        """Done with it; the connection is kept only when the body was read to its end. Idempotent."""


class Upstream(Protocol):
    """Asks sources."""

    async def open(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send a request, follow allowed redirects, return once the head is there. Raises UpstreamError."""


class Anchor(Protocol):
    """States what a content must be: a service over TLS, a signed catalogue, the name itself."""

    async def claims(self, target: Target, response: Fields, *, secure: bool, ask: bool = True) -> Statements:
        """What this anchor says of the content of ``target``, whose origin answered with the fields ``response``.

        Empty when it says nothing. Bounded in time; never raises: an anchor that cannot tell is among the unknown ones,
        and is counted and logged by itself. ``secure``: see ``UpstreamAnswer``, of the answer with these fields.
        ``ask`` False: only what can be told at once, without asking a service.
        """
