"""What owner and workers say to one another: values, and their bytes.

Owns: the two vocabularies. Each message is one datagram; a descriptor may travel with it. Must not know who acts on it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from cacheserver.web.heads import HitLines
from cacheserver.web.hot_table import Label

LIMIT_BYTES = 160 * 1024
"""Largest message; what is larger is not sent."""
FIRST_BYTES_LIMIT = 128 * 1024
"""Most bytes of a client that may travel in one message."""


class _Message(msgspec.Struct, array_like=True, tag=True):
    """Base of all messages."""


# -- from the owner --------------------------------------------------------------------------------------------------


class Configure(_Message):
    """The settings that a worker needs; sent first, and after every reload."""

    fast_lane: bool
    access_log: str
    """``json``, ``combined`` or empty for none."""
    services: tuple[str, ...]
    subnets: tuple[tuple[str, tuple[str, ...]], ...]
    """Groups of client addresses: name and CIDR blocks."""
    turn_bytes: int
    idle_timeout_s: float
    min_send_rate_bps: int


class Take(_Message):
    """A client's connection, with the bytes that were read from it already; carries its descriptor."""

    first: bytes = b""


class Shed(_Message):
    """Hand this many connections back, each at its next request: others have fewer."""

    count: int


class Lend(_Message):
    """An object whose pieces are all PRESENT; carries the descriptor of its file."""

    number: int
    length_bytes: int
    piece_size_bytes: int


class Learn(_Message):
    """A head shape and the lent object that answers it."""

    shape: bytes
    number: int
    label: Label
    fresh_until_s: float
    lines: HitLines


class Withdraw(_Message):
    """Answer from this object no more; ``cut``: end answers under way too, as pieces of it were lost."""

    number: int
    cut: bool


class Clear(_Message):
    """Forget every shape."""


class Collect(_Message):
    """Report now."""

    number: int


class Drain(_Message):
    """Close idle connections, let running answers end, then exit."""

    within_s: float


# -- from a worker ---------------------------------------------------------------------------------------------------


class Hello(_Message):
    """The worker has begun."""

    pid: int


class Early(_Message):
    """Bytes of the connection that the next ``HandBack`` carries, before its own: they are too many for one message."""

    data: bytes


class HandBack(_Message):
    """A connection whose request is not for a worker, with its bytes; carries its descriptor, or it has ended."""

    first: bytes


class Kept(_Message):
    """A withdrawn object is still being sent; ``Given`` follows."""

    number: int


class Given(_Message):
    """A withdrawn object's descriptor is closed."""

    number: int


class LogLines(_Message):
    """Lines of the access log, each with its end."""

    lines: bytes
    count: int


class Report(_Message):
    """What happened since the last report; ``number`` is that of the ``Collect`` which it answers, or 0."""

    number: int
    tally: bytes
    touched: list[tuple[int, int, int]]
    """Uses: object number, first piece, end piece."""
    closed: int
    """Connections that have ended here since the worker began; those handed back do not count."""
    requests: int
    """Answers since the worker began."""


ToWorker = Configure | Take | Shed | Lend | Learn | Withdraw | Clear | Collect | Drain
ToOwner = Hello | Early | HandBack | Kept | Given | LogLines | Report
Message = TypeVar("Message", ToWorker, ToOwner)

encode = msgspec.msgpack.Encoder().encode
to_worker = msgspec.msgpack.Decoder(ToWorker)
to_owner = msgspec.msgpack.Decoder(ToOwner)
