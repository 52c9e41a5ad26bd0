"""Sums over access-log lines (JSON): by service, subnet, outcome and hour, and the objects that cost most bytes.

Owns: reading lines as they come, and bounded tables. Memory does not grow with the log: a full table counts new keys as
``other``, and the objects are kept by the Space-Saving rule (Metwally et al. 2005), by which the sum of one of the
largest may be somewhat too high. Never keeps a query string.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from cacheserver.core.request.subnets import Subnets
from cacheserver.metrics.tally import HIT_OUTCOMES, NOT_SERVED, OTHER, OUTCOMES

_TABLE_LIMIT: Final = 10_000
_OBJECTS_LIMIT: Final = 20_000
_CLIENTS_LIMIT: Final = 50_000
_TEXT_LIMIT: Final = 512


class _Line(msgspec.Struct):
    """The members of a line that a summary needs; event lines have no status and do not fit."""

    ts: Annotated[str, Meta(pattern=r"\A[!-~]{4}-[!-~]{2}-[!-~]{2}T[!-~]{8,}Z\Z")]
    status: int
    bytes: Annotated[int, Meta(ge=0, lt=2**62)]
    outcome: str
    client: str = ""
    service: str = ""
    host: str = ""
    path: str = ""
    cache: str = ""


@dataclass(slots=True)
class Sums:
    """Answers of one kind; ``hit_bytes`` needed no body from an origin, ``served_bytes`` are no refusals or errors."""

    requests: int = 0
    body_bytes: int = 0
    hit_bytes: int = 0
    served_bytes: int = 0

    def add(self, body_bytes: int, *, hit: bool | None) -> None:
        """Count one answer; ``hit`` None: nothing was served."""
        self.requests += 1
        self.body_bytes += body_bytes
        if hit is not None:
            self.served_bytes += body_bytes
        if hit:
            self.hit_bytes += body_bytes

    @property
    def hit_ratio(self) -> float | None:
        """Share of the served bytes that were hits; None where no byte was served."""
        return self.hit_bytes / self.served_bytes if self.served_bytes else None


class _Table:
    """Sums by key, at most so many keys."""

    def __init__(self) -> None:
        self.rows: dict[str, Sums] = {}

    def add(self, key: str, body_bytes: int, *, hit: bool | None) -> None:
        if key not in self.rows and len(self.rows) >= _TABLE_LIMIT:
            key = OTHER
        self.rows.setdefault(key, Sums()).add(body_bytes, hit=hit)


class TopObjects:
    """The objects with most bytes, by Space-Saving: a new object takes over the sums of the smallest one it replaces.

    With at most ``limit`` different objects all sums are exact.
    """

    def __init__(self, limit: int = _OBJECTS_LIMIT) -> None:
        self.exact = True
        self._limit = limit
        self._rows: dict[str, list[int]] = {}
        """Name → [bytes, requests]."""
        self._heap: list[tuple[int, str]] = []
        """Lower bounds of the sums; an entry is brought up to date when it comes to the top."""

    def add(self, name: str, body_bytes: int) -> None:
        """Count one answer."""
        row = self._rows.get(name)
        if row is not None:
            row[0] += body_bytes
            row[1] += 1
            return
        if len(self._rows) < self._limit:
            self._rows[name] = [body_bytes, 1]
            heapq.heappush(self._heap, (body_bytes, name))
            return
        self.exact = False
        least_bytes, requests = self._rows.pop(self._smallest())
        self._rows[name] = [least_bytes + body_bytes, requests + 1]
        heapq.heapreplace(self._heap, (least_bytes + body_bytes, name))

    def _smallest(self) -> str:
        while True:
            noted, name = self._heap[0]
            actual = self._rows[name][0]
            if noted == actual:
                return name
            heapq.heapreplace(self._heap, (actual, name))

    def largest(self, count: int) -> list[tuple[str, int, int]]:
        """``(name, bytes, requests)``, the largest first."""
        best = heapq.nsmallest(count, self._rows.items(), key=lambda item: (-item[1][0], item[0]))
        return [(name, body_bytes, requests) for name, (body_bytes, requests) in best]


class Names:
    """Names for client addresses: the operator's groups, or /24 and /64 where there are none."""

    def __init__(self, groups: Subnets | None = None) -> None:
        self._groups = groups
        self.name = lru_cache(_CLIENTS_LIMIT)(self._find)
        """The subnet of an address as the log shows it."""

    def _find(self, client: str) -> str:
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return "unknown"
        if self._groups is not None:
            return self._groups.group_of(client)
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


class Summary:
    """Everything that is counted over a log."""

    def __init__(self, names: Names | None = None) -> None:
        self.total = Sums()
        self.services = _Table()
        self.subnets = _Table()
        self.outcomes = _Table()
        self.hours = _Table()
        self.objects = TopObjects()
        self.other_lines = 0
        """Lines that are no answer: events in the same stream, torn lines, other formats."""
        self.first = self.last = ""
        self._names = names or Names()
        self._decode = msgspec.json.Decoder(_Line).decode

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Count lines as they come; one that is no answer of the access log counts in ``other_lines`` alone."""
        for raw in lines:
            if not raw.strip():
                continue
            try:
                line = self._decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.other_lines += 1
            else:
                self._add(line)

    def _add(self, line: _Line) -> None:
        hit, size = _is_hit(line), line.bytes
        for table, key in (
            (self.services, line.service or "none"),
            (self.subnets, self._names.name(line.client)),
            (self.outcomes, line.outcome),
            (self.hours, line.ts[:13] + "Z"),
        ):
            table.add(key[:_TEXT_LIMIT], size, hit=hit)
        self.total.add(size, hit=hit)
        self.first = min(self.first or line.ts, line.ts)
        self.last = max(self.last, line.ts)
        if size:
            self.objects.add(f"{line.host}{line.path.partition('?')[0]}"[:_TEXT_LIMIT], size)

    def as_json(self, top: int) -> dict[str, Any]:
        """All of it as JSON values; bytes are body bytes."""
        return {
            "first": self.first,
            "last": self.last,
            "total": _row(self.total),
            "services": _rows(self.services),
            "subnets": _rows(self.subnets),
            "outcomes": _rows(self.outcomes),
            "hours": _rows(self.hours),
            "objects": [
                {"object": name, "bytes": size, "requests": requests}
                for name, size, requests in self.objects.largest(top)
            ],
            "objects_exact": self.objects.exact,
            "other_lines": self.other_lines,
        }


def _is_hit(line: _Line) -> bool | None:
    """A hit by its outcome; an answer that was cut names the reason there, and its cache status tells."""
    if line.outcome in NOT_SERVED:
        return None
    if line.outcome in OUTCOMES:
        return line.outcome in HIT_OUTCOMES
    return "hit" in (parameter.strip() for parameter in line.cache.split(";")[1:])


def _row(sums: Sums) -> dict[str, Any]:
    ratio = None if sums.hit_ratio is None else round(sums.hit_ratio, 4)
    return {"requests": sums.requests, "bytes": sums.body_bytes, "hit_bytes": sums.hit_bytes, "hit_ratio": ratio}


def _rows(table: _Table) -> dict[str, dict[str, Any]]:
    return {key: _row(sums) for key, sums in sorted(table.rows.items())}
