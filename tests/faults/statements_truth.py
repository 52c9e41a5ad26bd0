"""What may be answered of contents of which a signed catalogue speaks, while one of their two sources lies.

A complete body is right where it is the one that a statement in force during the request names. Where nothing is said,
it is what either source has. Every byte, of a part or of an answer that was cut too, is of one of the two bodies, but
for a byte that was flipped on the disk and not found yet. Owns this model. Must not ask the node anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.client import Response

SETTLING_S = 5.0
"""How long a statement may take where it is not demanded: stored content is judged in the background."""


@dataclass(slots=True)
class Statement:
    """What is said of a content for a while; times are the event loop's."""

    body: bytes | None
    """What it must be, whether or not a source has it; None: nothing is said."""
    since_s: float
    until_s: float = float("inf")


@dataclass(slots=True)
class Flip:
    """A byte that is another one on the disk until the scrubber has found it."""

    at: int
    since_s: float
    until_s: float = float("inf")


@dataclass(slots=True)
class Spoken:
    """One content."""

    host: str
    path: str
    right: bytes
    lie: bytes
    """Of the same length: what the other source has."""
    demanded: bool
    """Whether its service demands an anchor, so that a statement holds for the very next request."""
    piece_bytes: int
    statements: list[Statement] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)

    def say(self, body: bytes | None, began_s: float) -> None:
        """Another statement is on its way; it holds once it is ``confirmed``."""
        self.statements.append(Statement(body, began_s))

    def confirmed(self, now_s: float) -> None:
        """The last statement holds from now on, and the one before does not."""
        if len(self.statements) > 1:
            self.statements[-2].until_s = min(self.statements[-2].until_s, now_s)

    @property
    def said(self) -> bytes | None:
        """What is said now."""
        return self.statements[-1].body

    def wholes(self, sent_s: float, ended_s: float) -> list[bytes]:
        """The complete bodies that are right."""
        oldest_s = sent_s if self.demanded else sent_s - SETTLING_S
        allowed: list[bytes] = []
        for each in self.statements:
            if each.since_s <= ended_s and each.until_s >= oldest_s:
                allowed += (self.right, self.lie) if each.body is None else (each.body,)
        return allowed

    def judge(self, start: int, response: Response, sent_s: float, ended_s: float) -> str | None:
        """Why an answer with a body from byte ``start`` on is wrong, or None."""
        body = self._as_sent(start, response.body, sent_s, ended_s)
        for at, part in _by_pieces(body, start, self.piece_bytes):
            if part not in (self.right[at : at + len(part)], self.lie[at : at + len(part)]):
                return f"FOREIGN BYTES in the piece from {at} on, {len(body)} bytes from {start} on"
        if not response.complete or start or len(body) != len(self.right):
            return None
        if body in self.wholes(sent_s, ended_s):
            return None
        named = {self.right: "right", self.lie: "lie"}
        last = [
            f"{'nothing' if each.body is None else named.get(each.body, 'other')} {each.since_s - ended_s:+.2f} s"
            for each in self.statements[-3:]
        ]
        took = f"asked {sent_s - ended_s:+.2f} s"
        return f"COMPLETE WRONG BODY ({named.get(body, 'a mixture')}), {took}; said: {', '.join(last)}"

    def _as_sent(self, start: int, body: bytes, sent_s: float, ended_s: float) -> bytes:
        """With the bytes that were flipped on the disk meanwhile as they were before."""
        restored = bytearray(body)
        flipped = [flip.at for flip in self.flips if flip.since_s <= ended_s and flip.until_s >= sent_s]
        for first, part in _by_pieces(body, start, self.piece_bytes):
            for whole in (self.right, self.lie):
                trial = bytearray(part)
                for at in flipped:
                    if first <= at < first + len(part) and trial[at - first] ^ 0xFF == whole[at]:
                        trial[at - first] = whole[at]
                if trial == whole[first : first + len(part)]:
                    restored[first - start : first - start + len(part)] = trial
        return bytes(restored)


def _by_pieces(body: bytes, start: int, piece_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The parts of a body that lie in one piece each, with their offsets in the content."""
    at = start
    while at < start + len(body):
        stop = min(at - at % piece_bytes + piece_bytes, start + len(body))
        yield at, body[at - start : stop - start]
        at = stop


@dataclass(slots=True)
class Tally:
    """What clients got."""

    right: int = 0
    cut: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    under_readers: int = 0
    """Readers under whom something was condemned that they had begun to get."""

    @property
    def answers(self) -> int:
        """All of them."""
        return self.right + self.cut + self.refused + len(self.wrong)
