"""What the fast lane may answer: request heads that the full path has answered as plain hits, and with what.

Owns: the bounded table from a head's bytes (its Range value taken out) to an entry. Holds no rule of HTTP or caching:
the full path puts an entry in, and every change to the object, its freshness or the settings takes it out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cacheserver.core.http.fields import Fields
from cacheserver.core.request.answer_record import RequestLabel
from cacheserver.logs.access_json import LineTemplate
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.heads import HitLines

MAX_ENTRIES = 65_536
MAX_HEAD_BYTES = 2048
HEAD_END = b"\r\n\r\n"
_RANGE = b"\r\nRange: bytes="
_LINES_LIMIT = 64
_VALUE_LIMIT = 37
"""Two numbers of 18 digits."""
_SERIAL = b"\r\nMS-CV: "
_SERIAL_VALUE = re.compile(rb"[A-Za-z0-9+/.!-]{1,160}").match
_SECURE = b"tls"
"""Behind the shapes of heads that came over TLS; no head ends so."""
_PLAIN = frozenset({"host", "range", "user-agent", "accept", "accept-encoding", "accept-language", "ms-cv", "referer"})
"""Request fields that cannot change the answer to a fresh object without Vary; any other keeps a head out."""


@dataclass(slots=True)
class HotEntry:
    """One head shape and the object that answers it."""

    obj: StoredObject
    representation: object
    """The object's when this entry was made; another one there means that the entry is void."""
    length_bytes: int
    label: RequestLabel
    fresh_until_s: float
    """Monotonic time."""
    lines: HitLines
    next_second_s: float = -1.0
    """Monotonic time from which on the heads are rendered anew, as Age and ttl have changed."""
    head_200: bytes = b""
    head_206: bytes = b""
    log_lines: dict[str, LineTemplate] = field(default_factory=dict)
    """Access log lines of this entry by client, encoded but for the numbers."""
    touched: set[int] = field(default_factory=set)
    """First pieces of the spans noted as used in this second."""
    warm: set[int] = field(default_factory=set)
    """Regions of the object that were found in memory in this second, as the lane numbers them."""

    def begin_second(self, now_s: float, wall_s: float) -> bool:
        """Render the heads of this second, as the full path would send them now; False where it would find it stale.

        ``fresh_until_s`` knows nothing of a wall clock that was set, or of a machine that was suspended.
        """
        if not self.lines.fresh(wall_s):
            return False
        self.next_second_s = int(now_s) + 1.0
        self.head_200, self.head_206 = self.lines.encode(200, wall_s), self.lines.encode(206, wall_s)
        self.touched.clear()
        self.warm.clear()
        return True


def shape_of(head: bytes) -> tuple[bytes, bytes | None]:
    """A head without its first Range line, and the value of that; None when it has none.

    The value of MS-CV, which is another one in each request, is taken out too. What is taken out says nothing that
    could change an answer or its end: of MS-CV letters, digits and dots alone, of Range what ``span_of`` reads.
    """
    if _SERIAL in head:
        before, _, rest = head.partition(_SERIAL)
        value = _SERIAL_VALUE(rest)
        head = before + _SERIAL + (rest if value is None else rest[value.end() :])
    before, line, rest = head.partition(_RANGE)
    if not line:
        return head, None
    end = rest.find(b"\r\n")
    return before + rest[end:], rest[:end]


def span_of(value: bytes, length: int) -> tuple[int, int]:
    """Half-open span of ``first-last`` or ``first-``; an empty one for every other form."""
    first, dash, last = value.partition(b"-")
    if not first.isdigit() or len(value) > _VALUE_LIMIT:
        return 0, 0
    start = int(first)
    if last.isdigit() and len(last) <= 18:
        stop = int(last) + 1
        return start, stop if stop < length else length
    return (start, length) if dash and not last else (0, 0)


def _is_learnable(shape: bytes) -> bool:
    """Whether heads of this shape say what they seem to say.

    A Range line of another spelling would be overlooked, a line before the request line be taken for a field, and the
    one line more of a Range could be one too many.
    """
    return b"\r\nrange:" not in shape.lower() and shape[:1].isalpha() and shape.count(b"\n") <= _LINES_LIMIT


def is_plain(fields: Fields) -> bool:
    """Whether a request carries nothing that could change its answer but one Range at the most."""
    names = [name.lower() for name, _value in fields]
    return _PLAIN.issuperset(names) and names.count("range") <= 1 and names.count("host") == 1


class HotTable:
    """Entries by shape, oldest dropped first."""

    def __init__(self) -> None:
        self._entries: dict[bytes, HotEntry] = {}
        self._shapes: dict[StoredObject, set[bytes]] = {}
        self.get = self._entries.get
        self.era = 0
        """Another one after each change of the settings."""

    def __len__(self) -> int:
        return len(self._entries)

    def get_secure(self, shape: bytes) -> HotEntry | None:
        """The entry of a shape that came over TLS."""
        return self._entries.get(shape + _SECURE)

    def learn(self, head: bytes, entry: HotEntry, *, secure: bool = False) -> bool:
        """Answer heads of this shape from ``entry`` from now on; False where the shape was known for this object.

        ``secure``: those that come over TLS alone, as the scheme may be a part of the key.
        """
        shape, _value = shape_of(head)
        if not _is_learnable(shape):
            return True
        if secure:
            shape += _SECURE
        before = self._entries.get(shape)
        self._drop(shape)
        if len(self._entries) >= MAX_ENTRIES:
            self._drop(next(iter(self._entries)))
        self._entries[shape] = entry
        self._shapes.setdefault(entry.obj, set()).add(shape)
        return before is None or before.representation is not entry.representation

    def forget(self, obj: StoredObject) -> None:
        """The object is gone or has lost pieces."""
        for shape in self._shapes.pop(obj, ()):
            self._entries.pop(shape, None)

    def clear(self) -> None:
        """The settings have changed."""
        self.era += 1
        self._entries.clear()
        self._shapes.clear()

    def _drop(self, shape: bytes) -> None:
        entry = self._entries.pop(shape, None)
        if entry is not None:
            shapes = self._shapes[entry.obj]
            shapes.discard(shape)
            if not shapes:
                del self._shapes[entry.obj]
