"""Settings of fills: how much is fetched at once, and for how long a fill outlives its clients."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cacheserver.core.units import Size


class FillOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is fetched at once, and for how long a fill outlives its clients."""

    parallel: Annotated[
        int, Meta(ge=1, le=64, description="Upstream requests in flight for one object that is read in sequence.")
    ] = 6
    per_origin: Annotated[int, Meta(ge=1, le=1024, description="Upstream requests in flight for one origin host.")] = 64
    total: Annotated[int, Meta(ge=1, le=65_536, description="Upstream requests in flight in all.")] = 256
    span_pieces: Annotated[int, Meta(ge=1, le=1024, description="Most contiguous pieces in one upstream request.")] = 4
    read_ahead_pieces: Annotated[
        int, Meta(ge=0, le=4096, description="Pieces fetched ahead of a client that reads in sequence.")
    ] = 32
    keep_until: Annotated[
        Literal["piece", "object"],
        Meta(description="What a fill finishes when no client waits any more: the piece in hand, or the whole object."),
    ] = "piece"
    linger_s: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds that read-ahead goes on for a client between two of its requests."),
    ] = 2.0
    hold_timeout_s: Annotated[
        float, Meta(gt=0, le=15, description="Longest wait for a whole verified piece before its bytes are streamed.")
    ] = 5.0
    tries: Annotated[int, Meta(ge=1, le=10, description="Tries per upstream request before its waiters are told.")] = 3
    backoff_s: Annotated[float, Meta(ge=0, le=10, description="Wait before the second try; doubles for the third.")] = (
        0.2
    )
    first_byte_s: Annotated[
        float, Meta(gt=0, le=120, description="A client hears a byte or a 5xx within this time. Its own limit is 20 s.")
    ] = 14.0
    pass_memory_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds for which a key that could not be stored is passed at once.")
    ] = 60.0
    negative_s: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds for which a shipped service's 404 or 410 is repeated from memory."),
    ] = 3.0
    spool_bytes: Annotated[
        Size,
        Meta(description="Most bytes of an answer without a length that are collected before its head can be sent."),
    ] = Size("64MiB")
