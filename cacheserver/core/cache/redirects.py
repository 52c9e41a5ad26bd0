"""Redirects of a source: which answers are some, and the request for their target (RFC 9110 §15.4).

Owns: how Location is read, and which fields go along. Where the caller may go at all is the caller's rule. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias
from urllib.parse import urljoin

from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import RequestError
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target

REDIRECTS: Final = (301, 302, 303, 307, 308)
_CROSSING: Final = frozenset(
    {"range", "if-range", "if-none-match", "if-modified-since", "accept-encoding", "accept", "via", "user-agent"}
)

Place: TypeAlias = Target | Source
"""Where a request can go."""


def follow(request: UpstreamRequest, location: str, admit: Callable[[str], Place | None]) -> UpstreamRequest | None:
    """The same request for the target of a redirect; to another host only fields go along that shape the answer.

    ``admit`` reads the absolute URL and may return None or raise RequestError to refuse it. None when it does, or when
    ``location`` is malformed.
    """
    try:
        place = admit(urljoin(request.place.url, location).partition("#")[0])
    except (RequestError, ValueError):
        return None
    if place is None:
        return None
    fields = request.fields
    if (place.host, place.port) != (request.place.host, request.place.port):
        fields = Fields(line for line in fields if line[0].lower() in _CROSSING)
    target = Source(place.scheme, place.host, place.port, place.path_and_query, request.place.kind)
    return replace(request, place=target, fields=fields)
