"""Sends each plain warm hit once more and counts which of these repeats the fast lane answered.

The first hit of a head shape teaches the lane, so its repeat is one that the lane has to answer. Owns what "plain" and
"warm" mean to the tests, apart from the node's own tables. Must not decide how many repeats the lane may leave out.
"""

from __future__ import annotations

import asyncio
import re

from tests.support.client import Lines, Response
from tests.support.node import Node

_PLAIN = frozenset({"host", "range", "user-agent", "accept", "accept-encoding", "accept-language", "referer"})
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_TTL = re.compile(r"ttl=(-?\d+)")
_SECONDS = re.compile(rb"(Age: |ttl=)\d+")
_LEAST_TTL_S = 5
"""A lifetime that does not end before the repeat is answered."""


class Repeats:
    """Asks one node, with its lane on or off, for what it has just answered as a warm hit."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._one_at_a_time = asyncio.Lock()
        self.sent = 0
        self.by_lane = 0
        """Those that the node counted as answers of its lane."""

    async def after(self, response: Response, target: str, headers: Lines, host: str | None, method: str) -> None:
        """Repeat the request that ``response`` answers, if it is plain and warm; AssertionError for another answer."""
        if not _is_plain(response, list(headers), method) or not _is_warm(response):
            return
        async with self._one_at_a_time:
            before = await lane_answers(self._node)
            again = await self._node.get(target, headers, host=host)
            by_lane = await lane_answers(self._node) > before
        if not _is_warm(again):
            return  # the object was replaced in between
        self.sent += 1
        self.by_lane += by_lane
        assert (steady(again), again.body) == (steady(response), response.body), "the repeat has another answer"


async def lane_answers(node: Node) -> int:
    """Answers of the fast lane since the node's start."""
    return int((await node.metrics()).total("cacheserver_lane_answers_total"))


def steady(response: Response) -> bytes:
    """The head without the numbers that change each second."""
    return _SECONDS.sub(rb"\1", response.raw_head)


def _is_plain(response: Response, headers: list[tuple[str, str]], method: str) -> bool:
    """GET with no field that could change the answer but one range of the form ``N-`` or ``N-M``."""
    names = [name.lower() for name, _ in headers]
    if method != "GET" or not _PLAIN.issuperset(names):
        return False
    ranges = [value for name, value in headers if name.lower() == "range"]
    if not ranges:
        return response.status == 200
    found = _RANGE.fullmatch(ranges[0])
    return len(ranges) == 1 and found is not None and response.status == 206


def _is_warm(response: Response) -> bool:
    """Whether the node answered from its store: fresh, some bytes, the same for every client."""
    member = (response.fields.value("Cache-Status") or "").rpartition(",")[2]
    ttl = _TTL.search(member)
    fresh = ttl is None or int(ttl[1]) >= _LEAST_TTL_S
    return "; hit" in member and fresh and "Vary" not in response.fields and response.complete and bool(response.body)
