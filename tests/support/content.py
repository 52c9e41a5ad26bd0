"""What the test origin holds and how it can misbehave.

Owns the values that a test hands to the origin. Must not touch sockets or time: ``support.origin`` acts on them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

Framing = Literal["length", "close", "chunked", "chunked-broken"]
Spelling = Literal["exact", "lower", "upper"]
FieldLines = tuple[tuple[str, str], ...]

DERIVED = "derived from the body"
"""Entity tag of a content that names none: a strong one made of the body's digest."""


def blob(seed: int, size: int) -> bytes:
    """``size`` bytes that are always the same for one ``seed`` and have no visible pattern."""
    return hashlib.shake_128(b"blob %d" % seed).digest(size)


def http_date(unix_s: float) -> str:
    """An IMF-fixdate (RFC 9110 §5.6.7) of a Unix time in seconds."""
    return formatdate(unix_s, usegmt=True)


@dataclass(frozen=True, slots=True)
class Content:
    """One generation of what the origin serves at one path.

    ``headers`` are sent as they stand and replace the origin's own line of the same name (Date, Content-Type).
    A ``status`` other than 200 is sent with the body as it is: no range, no condition is looked at.
    """

    body: bytes
    etag: str | None = DERIVED
    """Entity tag with its quotes; None: none is sent."""
    last_modified: str | None = None
    headers: FieldLines = ()
    status: int = 200

    @property
    def entity_tag(self) -> str | None:
        """The tag that is sent, or None."""
        if self.etag != DERIVED:
            return self.etag
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'


@dataclass(frozen=True, slots=True)
class Fault:
    """How one answer differs from the right one; without arguments it does not differ.

    Offsets named ``…_after`` count body bytes of this answer, ``flip_at`` counts from the start of the object.
    """

    delay_s: float = 0.0
    """Seconds before the first byte of the head."""
    rate_bps: float | None = None
    """Body bytes per second on this connection; 1.0 is a drip."""
    stall_after: int | None = None
    """Silence after that many bytes, until the peer leaves."""
    reset_after: int | None = None
    """RST after that many bytes."""
    truncate_after: int | None = None
    """Clean close after that many bytes."""
    close_before_head: bool = False
    """Clean close instead of an answer."""
    raw: bytes | None = None
    """These bytes instead of an answer, then a clean close."""
    flip_at: int | None = None
    """All bits of the object's byte at this offset are inverted."""
    range_shift: int = 0
    """Added to both positions of Content-Range; the body stays the asked one."""
    range_total: int | None = None
    """A wrong complete length in Content-Range."""
    ignore_range: bool = False
    """200 with the whole object."""
    multipart: bool = False
    """206 multipart/byteranges with one part where a single range was asked."""
    framing: Framing = "length"
    length_deltas: tuple[int, ...] = (0,)
    """One Content-Length line per entry: the right length plus the entry."""
    gzip: bool = False
    """The body compressed with Content-Encoding: gzip, though nobody asked."""
    bomb_bytes: int = 0
    """The body is the gzip coding of that many zeros, labelled as such."""
    endless: bool = False
    """A chunked body that never ends: the right one over and over."""
    status: int | None = None
    """This status with a short text instead of the object."""
    headers: FieldLines = ()
    """More field lines."""
    without: tuple[str, ...] = ()
    """Lower-case names of field lines that are left out."""
    spelling: Spelling = "exact"
    """How all field names are written."""
    informational: int = 0
    """Number of 103 heads before the final one."""
    pad_head_bytes: int = 0
    """Size of one more, meaningless field line."""
    become: Content | None = None
    """The path holds this content from this request on."""

    @classmethod
    def refusing(cls, status: int, *headers: tuple[str, str]) -> Fault:
        """An error status with field lines of its own, such as Retry-After."""
        return cls(status=status, headers=headers)

    @classmethod
    def redirecting(cls, location: str, status: int = 302) -> Fault:
        """A redirect to ``location``."""
        return cls(status=status, headers=(("Location", location),))
