"""What may be answered at each moment: the generations of every path at the origin, and the judgement of an answer.

A generation is allowed where its time at the origin overlaps the request, or ended no longer before it than its
lifetime: it may be stored and fresh. After a purge was confirmed, nothing is that had gone before the purge began.
Owns this model. Must not ask the node anything.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from cacheserver.core.http.fields import Fields
from tests.support.byteranges import content_range
from tests.support.client import ProtocolError, Response
from tests.support.content import Content, blob, http_date
from tests.support.origin import Origin

JOINED_S = 3.0
"""How much longer an answer may take from the origin to the last client that waits for the same one: the node may be
stopped meanwhile, and its disk is slow."""
_FIRST_DATE_S = 1_600_000_000
_DAY_S = 86_400
_PART = re.compile(rb"\r\n--([^\r\n]+?)(--)?\r\n(?:Content-Type: [^\r\n]+\r\n)?")


@dataclass(slots=True)
class Generation:
    """What a path holds for a while; times are the event loop's."""

    number: int
    content: Content
    since_s: float
    until_s: float = float("inf")

    @property
    def body(self) -> bytes:
        """All its bytes."""
        return self.content.body


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    path: str
    method: str
    fields: tuple[tuple[str, str], ...]
    spans: tuple[tuple[int, int], ...]
    """Half-open."""
    sent_s: float

    def value(self, name: str) -> str | None:
        """A field."""
        return Fields(self.fields).value(name)


@dataclass(slots=True)
class Path:
    """One path at the origin."""

    path: str
    most_bytes: int
    lifetime_s: int
    fields: tuple[tuple[str, str], ...] = ()
    tagged: bool = True
    """With an entity tag; else with Last-Modified alone."""
    changes: bool = True
    generations: list[Generation] = field(default_factory=list)
    purges: list[tuple[float, float]] = field(default_factory=list)
    """When each began and was confirmed."""
    removed: list[float] = field(default_factory=list)
    """When its object's file, or a file of some object with variants, was removed."""
    broken: list[tuple[float, float]] = field(default_factory=list)
    """When its origin broke off answers."""

    def allowed(self, sent_s: float, ended_s: float) -> list[Generation]:
        """What a request may be answered with that lasted from ``sent_s`` to ``ended_s``."""
        purged_s = max((began for began, confirmed in self.purges if confirmed <= sent_s), default=0.0)
        oldest_s = max(sent_s - self.lifetime_s - JOINED_S, purged_s)
        return [each for each in self.generations if each.since_s <= ended_s and each.until_s >= oldest_s]

    def disturbed(self, since_s: float, ended_s: float) -> bool:
        """Whether its origin failed or what is stored of it was taken away in that time: its readers may be cut then.

        One answer never spans two generations, and nothing is fetched any more for what was purged or has lost its
        file, which the node notices a while later.
        """
        spans = (*self.purges, *self.broken)
        purged = any(began <= ended_s and ended >= since_s for began, ended in spans)
        removed = any(since_s - JOINED_S <= at <= ended_s for at in self.removed)
        return purged or removed or self.generations[-1].since_s >= since_s


@dataclass(slots=True)
class Verdicts:
    """What clients got."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    """Answers 5xx by status."""
    unexcused: Counter[int] = field(default_factory=Counter)
    """Those to which nothing had been done."""
    cut: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        """All of them."""
        return self.right + len(self.wrong) + self.refused.total() + self.cut


class Truth:
    """All paths."""

    def __init__(self, origin: Origin, rng: random.Random) -> None:
        self._origin = origin
        self._rng = rng
        self.paths: dict[str, Path] = {}

    def add(self, path: Path) -> None:
        """Hold a path, with its first generation."""
        self.paths[path.path] = path
        self.change(path)
        self._origin.add(path.path, lambda _record, path=path: path.generations[-1].content)  # type: ignore[misc]

    def change(self, path: Path) -> None:
        """From now on the path holds another generation."""
        now_s, number = asyncio.get_running_loop().time(), len(path.generations)
        if path.generations:
            path.generations[-1].until_s = now_s
        size = self._rng.choice((path.most_bytes, path.most_bytes, self._rng.randint(1, path.most_bytes)))
        content = Content(
            blob(self._rng.getrandbits(48), size),
            etag=f'"{path.path}-{number}"' if path.tagged else None,
            last_modified=http_date(_FIRST_DATE_S + number * _DAY_S),
            headers=(("Cache-Control", f"max-age={path.lifetime_s}"), ("X-Generation", str(number)), *path.fields),
        )
        path.generations.append(Generation(number, content, now_s))

    def judge(self, asked: Asked, response: Response, ended_s: float) -> str | None:
        """Why an answer below 500 is wrong, or None."""
        path = self.paths[asked.path]
        allowed = path.allowed(asked.sent_s, ended_s)
        try:
            if response.status == 304:
                return None if any(_not_modified(asked, each) for each in allowed) else "304 for no allowed generation"
            if response.status == 416:
                short = any(all(start >= len(each.body) for start, _ in asked.spans) for each in allowed)
                return None if asked.spans and short else "416 for no allowed generation"
            return _judge_bytes(path, asked, response, allowed)
        except (ProtocolError, ValueError) as exc:
            return f"{response.status}: {exc}"


def _not_modified(asked: Asked, generation: Generation) -> bool:
    tag = asked.value("If-None-Match")
    if tag is not None:
        return tag == generation.content.entity_tag
    since = asked.value("If-Modified-Since")
    return since is not None and _number_of(since) >= generation.number


def _number_of(date: str) -> int:
    return int(parsedate_to_datetime(date).timestamp() - _FIRST_DATE_S) // _DAY_S


def _judge_bytes(path: Path, asked: Asked, response: Response, allowed: Sequence[Generation]) -> str | None:
    if response.status not in (200, 206):
        return f"status {response.status}"
    number = int(response.fields.value("X-Generation") or "-1")
    generation = next((each for each in allowed if each.number == number), None)
    if generation is None:
        return f"generation {number} is none of {[each.number for each in allowed]}"
    if response.fields.value("ETag") != generation.content.entity_tag:
        return f"generation {number} with the tag {response.fields.value('ETag')}"
    body = generation.body
    if asked.method == "HEAD":
        return None if response.fields.value("Content-Length") == str(len(body)) else "another length under HEAD"
    if response.status == 200:
        return _against(body, response.body, response, f"generation {number}")
    if asked.value("If-Range") not in (None, generation.content.entity_tag, generation.content.last_modified):
        return f"206 of generation {number}, which is not the one in If-Range"
    spans = [(start, min(stop, len(body))) for start, stop in asked.spans if start < len(body)]
    if "multipart" in (response.fields.value("Content-Type") or ""):
        return _judge_parts(body, response, spans)
    start, stop, total = content_range(response.fields)
    if (start, stop) not in spans or total != len(body):
        return f"range {start}-{stop}/{total} for {spans} of {len(body)}"
    return _against(body[start:stop], response.body, response, f"range {start}-{stop} of generation {number}")


def _against(wanted: bytes, got: bytes, response: Response, what: str) -> str | None:
    if not wanted.startswith(got):
        first = next((at for at, pair in enumerate(zip(wanted, got, strict=False)) if pair[0] != pair[1]), len(wanted))
        return f"WRONG BYTES from {first} on in {len(got)} bytes of {what}; {response.fields.value('Cache-Status')}"
    if response.complete and len(got) != len(wanted):
        return f"{len(got)} of {len(wanted)} bytes of {what} in complete framing"
    return None


def _judge_parts(body: bytes, response: Response, spans: Sequence[tuple[int, int]]) -> str | None:
    """A multipart body, which may be cut anywhere: what there is of each part."""
    data, parts = b"\r\n" + response.body.removeprefix(b"\r\n"), 0
    while (match := _PART.match(data)) is not None and not match[2]:
        line, blank, data = data[match.end() :].partition(b"\r\n\r\n")
        if not blank:
            break
        start, stop, total = content_range(Fields.from_raw([tuple(line.split(b": ", 1))]))  # type: ignore[list-item]
        if (start, stop) not in spans or total != len(body):
            return f"part {start}-{stop}/{total} for {spans} of {len(body)}"
        if not body[start:stop].startswith(data[: stop - start]):
            return f"WRONG BYTES in part {start}-{stop}; {response.fields.value('Cache-Status')}"
        data, parts = data[stop - start :], parts + 1
    if response.complete and parts != len(spans):
        return f"{parts} parts for {spans}"
    return None
