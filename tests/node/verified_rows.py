"""The table of origin faults that verification is held against: of the content's bytes, and of its manifest.

Owns the rows as data. Must not start anything or judge an outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.support.content import Content, Fault, FieldLines, blob
from tests.support.manifests import SPOILT, phf
from tests.support.record import RequestRecord, Responder

TAG = '"v1"'


@dataclass(frozen=True, slots=True)
class Shape:
    """One content: its truth and the size of its pieces. Three whole pieces and a short one."""

    body: bytes
    piece: int
    headers: FieldLines = ()
    """What the origin sends with the content: that it must not be stored, or its digest."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.body)

    def flipped(self, *offsets: int) -> bytes:
        """The body with all bits of these bytes inverted."""
        spoiled = bytearray(self.body)
        for offset in offsets:
            spoiled[offset] ^= 0xFF
        return bytes(spoiled)

    def content(self, body: bytes | None = None, tag: str | None = TAG) -> Content:
        """As the origin holds it; another ``body`` under the same tag is a lie."""
        return Content(self.body if body is None else body, etag=tag, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Row:
    """How the origin is spoilt at the content's path and at its manifest's; None: it is right there."""

    source: Callable[[Shape], Content | Responder] | None = None
    fault: Fault | None = None
    manifest: Callable[[Shape], Content | Responder] | None = None
    manifest_fault: Fault | None = None


def shape_of(piece: int) -> Shape:
    """The content of one run."""
    return Shape(blob(91, 3 * piece + 1234), piece)


def _wrong(spoil: Callable[[Shape], bytes]) -> Row:
    return Row(lambda shape: shape.content(spoil(shape)))


def _by_turn(wrong: Callable[[int], bool]) -> Row:
    """Wrong bytes at the requests whose number (from 0) is chosen."""

    def make(shape: Shape) -> Responder:
        asked: list[RequestRecord] = []
        lie = shape.flipped(*range(0, shape.size, 100))

        def answer(record: RequestRecord) -> Content:
            asked.append(record)
            return shape.content(lie if wrong(len(asked) - 1) else None)

        return answer

    return Row(make)


def _on_first_connection(shape: Shape) -> Responder:
    bad: list[int] = []
    lie = shape.flipped(*range(0, shape.size, 100))

    def answer(record: RequestRecord) -> Content:
        bad[:] = bad or [record.connection]
        return shape.content(lie if record.connection in bad else None)

    return answer


def _tags_that_change(shape: Shape) -> Responder:
    asked: list[RequestRecord] = []

    def answer(record: RequestRecord) -> Content:
        asked.append(record)
        return shape.content(tag=f'"v{len(asked)}"')

    return answer


def _bytes_and_tags_that_change(shape: Shape) -> Responder:
    asked: list[RequestRecord] = []

    def answer(record: RequestRecord) -> Content:
        asked.append(record)
        return shape.content() if len(asked) % 2 else shape.content(blob(92, shape.size), '"v2"')

    return answer


def _swapped(shape: Shape) -> bytes:
    piece = shape.piece
    return shape.body[piece : 2 * piece] + shape.body[:piece] + shape.body[2 * piece :]


WRONG_BYTES: dict[str, Row] = {
    "first byte flipped": _wrong(lambda shape: shape.flipped(0)),
    "a byte in the middle flipped": _wrong(lambda shape: shape.flipped(shape.size // 2)),
    "last byte flipped": _wrong(lambda shape: shape.flipped(shape.size - 1)),
    "one bit flipped": _wrong(lambda shape: bytes([shape.body[0] ^ 1]) + shape.body[1:]),
    "first byte of the last piece flipped": _wrong(lambda shape: shape.flipped(3 * shape.piece)),
    "two pieces swapped": _wrong(_swapped),
    "one piece twice": _wrong(lambda s: s.body[: s.piece] * 2 + s.body[2 * s.piece :]),
    "everything one byte late": _wrong(lambda shape: shape.body[-1:] + shape.body[:-1]),
    "bytes of another range": _wrong(lambda shape: shape.body[shape.piece :] + shape.body[: shape.piece]),
    "zeros": _wrong(lambda shape: bytes(shape.size)),
    "zeros from the second piece on": _wrong(lambda s: s.body[: s.piece] + bytes(s.size - s.piece)),
    "another content's bytes": _wrong(lambda shape: blob(92, shape.size)),
    "right to the probe, wrong after": _by_turn(lambda turn: turn > 0),
    "wrong once, then right": _by_turn(lambda turn: turn == 0),
    "wrong at every second request": _by_turn(lambda turn: turn % 2 == 0),
    "wrong on one connection": Row(_on_first_connection),
}
"""Wrong bytes of the right length: only these may be missed where there is no manifest."""

HEALED_BY_ITSELF = frozenset(("wrong once, then right",))
"""Of those, what asking again is enough for."""
BY_CHANCE = frozenset(("wrong at every second request", "wrong on one connection"))
"""Right or refused, as the pieces' requests and the strikes happen to fall."""


def _cuts(piece: int) -> dict[str, Row]:
    faults = {
        "truncated before the body": Fault(truncate_after=0),
        "truncated inside a piece": Fault(truncate_after=piece // 3),
        "truncated by one byte": Fault(truncate_after=piece - 1),
        "reset before the body": Fault(reset_after=0),
        "reset inside a piece": Fault(reset_after=piece // 3),
        "stall before the body": Fault(stall_after=0),
        "stall inside a piece": Fault(stall_after=piece // 3),
        "Range ignored, truncated": Fault(ignore_range=True, truncate_after=piece + 5),
        "Range ignored, reset": Fault(ignore_range=True, reset_after=2 * piece),
        "chunked and truncated": Fault(framing="chunked", truncate_after=piece // 3),
    }
    return {name: Row(fault=fault) for name, fault in faults.items()}


HEADS: dict[str, Row] = {
    name: Row(fault=fault)
    for name, fault in {
        "another range than asked": Fault(range_shift=1),
        "a range far away": Fault(range_shift=100_000_000),
        "a wrong total": Fault(range_total=77),
        "206 without Content-Range": Fault(without=("content-range",)),
        "multipart instead of a range": Fault(multipart=True),
        "gzip that nobody asked for": Fault(gzip=True),
        "gzip and Range ignored": Fault(gzip=True, ignore_range=True),
        "chunked and broken": Fault(framing="chunked-broken"),
        "Content-Length too large": Fault(length_deltas=(9,)),
        "Content-Length twice, different": Fault(length_deltas=(0, 7)),
        "close instead of an answer": Fault(close_before_head=True),
        "not HTTP": Fault(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
        "204": Fault(status=204),
        "206 with a text": Fault(status=206),
        "304 that nobody asked for": Fault(status=304),
        "416 for a range that exists": Fault(status=416),
        "404": Fault(status=404),
        "500": Fault(status=500),
        "a redirect to itself": Fault(status=302, headers=(("Location", "#"),)),
        "a redirect to a host that is not allowed": Fault.redirecting("http://unknown.example.org/x"),
        "a redirect to an address": Fault.redirecting("http://127.0.0.1:22/x"),
    }.items()
} | {
    "tags that change, bytes that do not": Row(_tags_that_change),
    "tags and bytes that change": Row(_bytes_and_tags_that_change),
    "a body that never ends": Row(fault=Fault(endless=True)),
}

RIGHT_ALL_THE_SAME: dict[str, Row] = {
    name: Row(fault=fault)
    for name, fault in {
        "no fault at all": Fault(),
        "slow but right": Fault(delay_s=0.1),
        "Range ignored": Fault(ignore_range=True),
        "Range ignored, chunked": Fault(ignore_range=True, framing="chunked"),
        "chunked": Fault(framing="chunked"),
        "names in lower case": Fault(spelling="lower"),
        "one informational head": Fault(informational=1),
    }.items()
}
"""Odd, but the client must get its bytes."""


def content_rows(piece: int) -> dict[str, Row]:
    """Faults of the content."""
    return WRONG_BYTES | _cuts(piece) | HEADS | RIGHT_ALL_THE_SAME


def _instead(spoil: Callable[[bytes, int], bytes]) -> Row:
    return Row(manifest=lambda shape: Content(spoil(shape.body, shape.piece)))


def _manifests_in_turn(shape: Shape) -> Responder:
    """Another content's manifest of the same length at every second request."""
    asked: list[RequestRecord] = []
    right, other = (Content(phf(body, shape.piece)) for body in (shape.body, blob(92, shape.size)))

    def answer(record: RequestRecord) -> Content:
        asked.append(record)
        return other if len(asked) % 2 else right

    return answer


LYING: dict[str, Row] = {
    "another content's manifest, same length": _instead(lambda body, piece: phf(blob(92, len(body)), piece)),
    "a manifest that changes between requests": Row(manifest=_manifests_in_turn),
}
"""Right in themselves but not this content's: only an anchor tells them from right ones."""

REFUSED: dict[str, Row] = {name: _instead(spoil) for name, spoil in SPOILT.items()} | {
    name: Row(manifest_fault=fault)
    for name, fault in {
        "404 in the manifest's place": Fault(status=404),
        "500 in the manifest's place": Fault(status=500),
        "a manifest that never comes": Fault(stall_after=0),
        "a manifest that breaks off": Fault(truncate_after=100),
        "a manifest that is reset": Fault(reset_after=50),
        "a manifest that never ends": Fault(endless=True),
        "a manifest in gzip": Fault(gzip=True),
        "a manifest that redirects to itself": Fault(status=302, headers=(("Location", "#"),)),
        "no HTTP in the manifest's place": Fault(raw=bytes(5000)),
    }.items()
}
"""No usable manifest: the client gets its bytes in simple mode."""

SLOW_MANIFEST: dict[str, Row] = {
    "a slow manifest": Row(manifest_fault=Fault(delay_s=0.3)),
    "a chunked manifest": Row(manifest_fault=Fault(framing="chunked")),
}


def manifest_rows() -> dict[str, Row]:
    """Faults of the manifest, with right content."""
    return LYING | REFUSED | SLOW_MANIFEST


def without_manifest(row: Row) -> Row:
    """The same where the origin has no manifest at all."""
    return replace(row, manifest=lambda _shape: Content(b"no such file\n", etag=None, status=404))
