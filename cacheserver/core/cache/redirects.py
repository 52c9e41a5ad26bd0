"""Redirects of a source: which answers are some, and the request for their target (RFC 9110 §15.4).

Owns: how Location is read, which fields go along, and how redirects bound what may be done with the answer that they
led to. Where the caller may go at all is the caller's rule. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from urllib.parse import quote, urljoin

from cacheserver.core.cache.freshness import explicit_lifetime_s, fields_lifetime_s, received_age_s
from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import RequestError
from cacheserver.core.http.cache_control import response_cache_control
from cacheserver.core.http.field_rules import list_members
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target

REDIRECTS: Final = (301, 302, 303, 307, 308)
_PERMANENT: Final = (301, 308)
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_GRANTS: Final = frozenset({"max-age", "s-maxage", "immutable", "stale-while-revalidate", "stale-if-error", "public"})
_CROSSING: Final = frozenset(
    {"range", "if-range", "if-none-match", "if-modified-since", "accept-encoding", "accept", "via", "user-agent"}
)

Place: TypeAlias = Target | Source
"""Where a request can go."""


def follow(request: UpstreamRequest, location: str, admit: Callable[[str], Place | None]) -> UpstreamRequest | None:
    """The same request for the target of a redirect; to another host only fields go along that shape the answer.

    ``admit`` reads the absolute URL and may return None or raise RequestError to refuse it. None when it does, or when
    ``location`` is malformed. Spaces and raw UTF-8 in it are sent as browsers send them, percent-encoded.
    """
    repaired = quote(location.strip(" \t"), safe=_PRINTABLE, encoding="latin-1")
    try:
        place = admit(urljoin(request.place.url, repaired).partition("#")[0])
    except (RequestError, ValueError):
        return None
    if place is None:
        return None
    fields = request.fields
    if (place.host, place.port) != (request.place.host, request.place.port):
        fields = Fields(line for line in fields if line[0].lower() in _CROSSING)
    target = Source(place.scheme, place.host, place.port, place.path_and_query, request.place.kind)
    return replace(request, place=target, fields=fields)


@dataclass(frozen=True, slots=True)
class Hop:
    """One redirect that was followed, and when it came."""

    status: int
    fields: Fields
    response_time_s: float


def bounded(answer: Fields, hops: Sequence[Hop], service: Service, response_time_s: float) -> Fields:
    """The fields of an answer that redirects led to, as they hold for the URL that was asked first.

    It may be used for as long as it and every redirect may be (RFC 9110 §15.4, RFC 9111 §4.2): the lifetime is the
    shortest, what forbids storing or selects by request fields counts wherever it stands.
    """
    limit_s = min((_lifetime_s(hop) for hop in hops), default=math.inf)
    immutable = service.lifetime == "immutable"
    own_s = (explicit_lifetime_s if immutable else fields_lifetime_s)(answer, response_time_s)
    forbidden = [word for hop in hops for word in _prohibitions(hop.fields)]
    selecting = [line for hop in hops for line in hop.fields.lines("Vary")]
    if limit_s < (math.inf if own_s is None and immutable else own_s or 0.0):
        kept = [word for word in list_members(answer.value("Cache-Control") or "") if _name_of(word) not in _GRANTS]
        strict = ["must-revalidate"] if immutable and not limit_s else []  # such services serve stale by themselves
        told = [f"max-age={int(limit_s) + received_age_s(answer)}", *strict, *kept, *forbidden]
        answer = answer.without("Cache-Control", "Expires").with_line("Cache-Control", ", ".join(told))
    elif forbidden:
        answer = answer.with_line("Cache-Control", ", ".join(forbidden))
    return Fields((*answer, *(("Vary", line) for line in selecting)))


def _lifetime_s(hop: Hop) -> float:
    """For how long a redirect leads where it leads; one that is temporary and says nothing must be asked again."""
    explicit_s = explicit_lifetime_s(hop.fields, hop.response_time_s)
    if explicit_s is not None:
        return max(0.0, explicit_s - received_age_s(hop.fields))
    return math.inf if hop.status in _PERMANENT else 0.0


def _prohibitions(fields: Fields) -> list[str]:
    directives = response_cache_control(fields)
    found = {"no-store": directives.no_store, "private": directives.private is True}
    return [word for word, said in found.items() if said]


def _name_of(directive: str) -> str:
    return directive.partition("=")[0].strip(" \t").lower()
