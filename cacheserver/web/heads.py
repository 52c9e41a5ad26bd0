"""Response heads: which fields an answer carries, in which order and letter case, and their bytes.

Owns: the answer's head for stored objects and for the node's own texts, the same for the fast lane and for the full
path. Pure; must not send. Clients of Delivery Optimization look fields up by exact case, so spelling matters here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from cacheserver.core.cache.decision import Outcome
from cacheserver.core.cache.freshness import current_age_s
from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.cache_status import cache_status
from cacheserver.core.http.field_rules import OF_THE_MESSAGE, end_to_end, is_field_value, is_token
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.via import append_via
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.request.target import Form

Lines = tuple[tuple[str, str], ...]
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_WRITTEN_HERE = ("Age", "Via", "Cache-Status", "Content-Length", "Content-Range", "Accept-Ranges", "Connection")
_REPRESENTATION_ONLY = ("Content-Type", "Content-Encoding", "Content-Language", "Last-Modified")
_OF_THE_HOST = frozenset({
    "accept-ch", "accept-ch-lifetime", "alt-svc", "clear-site-data", "critical-ch", "expect-ct", "nel",
    "origin-agent-cluster", "p3p", "public-key-pins", "public-key-pins-report-only", "report-to", "reporting-endpoints",
    "set-cookie", "set-cookie2", "strict-transport-security",
})  # fmt: skip
"""What an origin says of its whole host. A client in cache-host form would take it for the node's word of itself."""
NODE_NAME = "cacheserver"


@dataclass(frozen=True, slots=True)
class Head:
    """Status and field lines of one answer; ``length_bytes`` None means that the body is chunked."""

    status: int
    lines: Lines
    length_bytes: int | None

    def encode(self, *, close: bool, http_10: bool) -> bytes:
        """The head's bytes; ``close``: the connection ends after this answer."""
        end = []
        if self.status < 200 or self.status == 204:
            pass  # RFC 9110 §8.6, RFC 9112 §6.1: neither field
        elif self.length_bytes is not None:
            end.append(f"Content-Length: {self.length_bytes}\r\n")
        elif self.status != 304 and not http_10:
            end.append("Transfer-Encoding: chunked\r\n")
        if close:
            end.append("Connection: close\r\n")
        elif http_10:
            end.append("Connection: keep-alive\r\n")
        return encode_lines(self.status, self.lines) + "".join(end).encode("ascii") + b"\r\n"


def encode_lines(status: int, lines: Lines) -> bytes:
    """Status line and field lines, without the empty line that ends a head."""
    return f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}\r\n".encode("ascii") + _encoded(lines)


def _encoded(lines: Lines) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1", "replace")


def object_lines(representation: Representation, *, form: Form, age_s: float, via: str, cache_status: str) -> Lines:
    """Field lines of any answer made from a stored representation, but for length and range."""
    return (
        *_kept(representation, form),
        ("Via", append_via(representation.fields.value("Via"), via)),
        ("Cache-Status", cache_status),
        ("Age", _delta(age_s)),
    )


def _kept(representation: Representation, form: Form) -> Lines:
    kept = (line for line in _meant(representation.fields, form) if line[0].title() not in _WRITTEN_HERE)
    return (*kept, ("Accept-Ranges", "bytes"))


def _meant(fields: Fields, form: Form) -> Iterator[tuple[str, str]]:
    """The origin's lines that mean for a client of this form what they say."""
    return (line for line in fields if form is not Form.CACHE_HOST or line[0].lower() not in _OF_THE_HOST)


def with_age(fields: Fields, age_s: float) -> Fields:
    """The fields of a kept answer, with its age."""
    return fields.with_line("Age", _delta(age_s))


def _delta(seconds: float) -> str:
    return str(min(int(seconds), 2**31))


@dataclass(frozen=True, slots=True)
class HitLines:
    """The field lines of a plain hit, from which those of any later second can be made."""

    kept: bytes
    """All lines of a 200 but Cache-Status and Age, encoded."""
    kept_of_part: bytes
    """The same of a 206."""
    lifetime_s: float
    age_on_arrival_s: float
    arrived_s: float
    """Wall time of the answer that the age counts from."""
    trust: int

    def fresh(self, wall_s: float) -> bool:
        """Whether the answer is still fresh at ``wall_s``."""
        return self._age_s(wall_s) < self.lifetime_s

    def _age_s(self, wall_s: float) -> float:
        return self.age_on_arrival_s + max(0.0, wall_s - self.arrived_s)

    def encode(self, status: int, wall_s: float) -> bytes:
        """Status line and field lines at ``wall_s``, without length and range."""
        age_s = self._age_s(wall_s)
        word = object_cache_status(self.lifetime_s - age_s, Trust(self.trust), Outcome.HIT)
        kept = self.kept_of_part if status == 206 else self.kept
        return encode_lines(status, ()) + kept + _encoded((("Cache-Status", word), ("Age", _delta(age_s))))


def hit_lines(representation: Representation, *, form: Form, via: str, lifetime_s: float) -> HitLines:
    """The lines of a hit on ``representation``."""
    arrived_s = representation.response_time_s
    kept = (*_kept(representation, form), ("Via", append_via(representation.fields.value("Via"), via)))
    return HitLines(
        kept=_encoded(kept),
        kept_of_part=_encoded(without_message_digests(kept)),
        lifetime_s=lifetime_s,
        age_on_arrival_s=current_age_s(representation, arrived_s),
        arrived_s=arrived_s,
        trust=int(representation.trust),
    )


def object_cache_status(left_s: float, trust: Trust, outcome: Outcome, *, collapsed: bool = False) -> str:
    """This node's member of Cache-Status for an answer from a stored representation that is fresh for ``left_s``."""
    ttl_s = int(left_s) if abs(left_s) < 1e9 else None
    detail = trust.word if trust else None
    if outcome in (Outcome.HIT, Outcome.STALE):
        return cache_status(NODE_NAME, hit=True, ttl_s=ttl_s, detail=detail)
    if outcome is Outcome.REVALIDATED:
        return cache_status(NODE_NAME, hit=False, fwd="stale", fwd_status=304, ttl_s=ttl_s, detail=detail)
    forwarded = "partial" if outcome is Outcome.PARTIAL else "uri-miss"
    return cache_status(
        NODE_NAME, hit=False, fwd=forwarded, stored=True, collapsed=collapsed or None, ttl_s=ttl_s, detail=detail
    )


def without_representation(lines: Lines) -> Lines:
    """Lines for a 304, 412 or 416: no metadata that describes a body which is not sent (RFC 9110 §15.4.5)."""
    return tuple(line for line in lines if line[0].title() not in _REPRESENTATION_ONLY)


def without_message_digests(lines: Lines) -> Lines:
    """Lines for a part: no digest of the bytes of another message (RFC 9530 §2)."""
    return tuple(line for line in lines if line[0].lower() not in OF_THE_MESSAGE)


def relayed_lines(fields: Fields, *, form: Form, via: str, cache_status: str) -> Lines:
    """Field lines of an origin's answer that passes through, without those that hold control characters."""
    kept = (
        (name, value)
        for name, value in _meant(end_to_end(fields), form)
        if name.title() not in ("Via", "Cache-Status", "Content-Length") and is_token(name) and is_field_value(value)
    )
    member = fields.value("Cache-Status")
    spelled = ((name if name.lower() != "content-range" else "Content-Range", value) for name, value in kept)
    return (
        *spelled,
        ("Via", append_via(fields.value("Via"), via)),
        ("Cache-Status", f"{member}, {cache_status}" if member else cache_status),
    )


def text_lines(date: str, *extra: tuple[str, str]) -> Lines:
    """Field lines of a text of the node's own."""
    return (("Date", date), ("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *extra)
