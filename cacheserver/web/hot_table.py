"""What the fast lane may answer: request heads that the full path has answered as plain hits, and with what.

Owns: the bounded table from a head's bytes (its Range value taken out) to an entry. Holds no rule of HTTP or caching:
the full path puts an entry in, and every change to the object, its freshness or the settings takes it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cacheserver.access_log import LineTemplate
from cacheserver.core.fields import Fields
from cacheserver.core.representation import Representation
from cacheserver.core.target import Target
from cacheserver.store.stored_object import StoredObject

MAX_ENTRIES = 65_536
MAX_HEAD_BYTES = 2048
_RANGE = b"\r\nRange: bytes="
_PLAIN = frozenset({"host", "range", "user-agent", "accept", "accept-encoding", "accept-language", "ms-cv", "referer"})
"""Request fields that cannot change the answer to a fresh object without Vary; any other keeps a head out."""


@dataclass(slots=True)
class HotEntry:
    """One head shape and the object that answers it."""

    obj: StoredObject
    representation: Representation
    target: Target
    user_agent: str | None
    fresh_until_s: float
    """Monotonic time."""
    render: Callable[[int], bytes]
    """Status and field lines for 200 or 206, as the full path would send them now."""
    next_second_s: float = -1.0
    """Monotonic time from which on the heads are rendered anew, as Age and ttl have changed."""
    head_200: bytes = b""
    head_206: bytes = b""
    log_lines: dict[str, LineTemplate] = field(default_factory=dict)
    """Access log lines of this entry by client, encoded but for the numbers."""
    touched: set[int] = field(default_factory=set)
    """First pieces of the spans noted as used in this second."""

    @property
    def length_bytes(self) -> int:
        """Length of the representation."""
        return self.representation.length_bytes

    def begin_second(self, now_s: float) -> None:
        """Render the heads of this second."""
        self.next_second_s = int(now_s) + 1.0
        self.head_200, self.head_206 = self.render(200), self.render(206)
        self.touched.clear()


def shape_of(head: bytes) -> tuple[bytes, bytes | None]:
    """A head without the value of its first Range line, and that value; None when it has none."""
    at = head.find(_RANGE)
    if at < 0:
        return head, None
    begin = at + len(_RANGE)
    end = head.find(b"\r\n", begin)
    return head[:begin] + head[end:], head[begin:end]


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

    def __len__(self) -> int:
        return len(self._entries)

    def learn(self, head: bytes, entry: HotEntry) -> None:
        """Answer heads of this shape from ``entry`` from now on."""
        shape, _value = shape_of(head)
        self._drop(shape)
        if len(self._entries) >= MAX_ENTRIES:
            self._drop(next(iter(self._entries)))
        self._entries[shape] = entry
        self._shapes.setdefault(entry.obj, set()).add(shape)

    def forget(self, obj: StoredObject) -> None:
        """The object is gone or has lost pieces."""
        for shape in self._shapes.pop(obj, ()):
            self._entries.pop(shape, None)

    def clear(self) -> None:
        """The settings have changed."""
        self._entries.clear()
        self._shapes.clear()

    def _drop(self, shape: bytes) -> None:
        entry = self._entries.pop(shape, None)
        if entry is not None:
            shapes = self._shapes[entry.obj]
            shapes.discard(shape)
            if not shapes:
                del self._shapes[entry.obj]
