"""Who is blamed for what: from evidence to its consequence for the source that sent the bytes.

Owns: the one table. ``docs/integrity.md`` shows it, and a test compares both. What is refused or stored is decided
elsewhere; this is about sources alone. Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.errors import (
    BadAnswer,
    BadPiece,
    GenerationChanged,
    NoSource,
    OriginStatus,
    UpstreamError,
    WrongContent,
)
from cacheserver.core.integrity.trust import Claim, Trust


class Blame(Enum):
    """What follows for the source."""

    NOBODY = "nothing"
    DEMOTE = "other sources are asked first for 15 minutes, unless the client named it"
    RETRY = "other sources are asked first for 30 seconds, or until it answers"
    STRIKE = "a strike: three distinct objects ban it"


class Evidence(Enum):
    """What spoke against the bytes, or the answer, of one source."""

    ANCHORED_PIECE = "a piece contradicts a manifest that a signed catalogue or a trust service confirms"
    ANCHORED_WHOLE = "the whole contradicts the digest of a signed catalogue or a trust service"
    PLAIN_PIECE = "a piece contradicts a manifest that nothing confirms"
    RECORD = "a piece contradicts the record of an earlier one that nothing vouched for"
    NAME = "the whole contradicts the digest in its own URL"
    DIGEST_FIELD = "the whole contradicts a digest field of the answers to it"
    SEVERAL_SOURCES = "wrong bytes that came from several sources"
    TRANSPORT = "no connection, a time-out, a connection that broke inside the answer"
    FAILURE = "5xx"
    CONTRADICTION = "an answer that contradicts itself or the request, or a page in place of a payload"
    REFUSAL = "any other status: it speaks of one object or one client"
    OTHER_GENERATION = "another generation of the content than the one that was begun"
    INTERRUPTED = "the client has left, or the node stops"


BLAME: Final = {
    Evidence.ANCHORED_PIECE: Blame.STRIKE,
    Evidence.ANCHORED_WHOLE: Blame.STRIKE,
    Evidence.PLAIN_PIECE: Blame.DEMOTE,
    Evidence.RECORD: Blame.NOBODY,
    Evidence.NAME: Blame.NOBODY,
    Evidence.DIGEST_FIELD: Blame.NOBODY,
    Evidence.SEVERAL_SOURCES: Blame.NOBODY,
    Evidence.TRANSPORT: Blame.RETRY,
    Evidence.FAILURE: Blame.RETRY,
    Evidence.CONTRADICTION: Blame.RETRY,
    Evidence.REFUSAL: Blame.NOBODY,
    Evidence.OTHER_GENERATION: Blame.NOBODY,
    Evidence.INTERRUPTED: Blame.NOBODY,
}
"""A digest in a URL is the client's word. A digest field or an unconfirmed manifest is the object's own word against
itself. Neither may take a source from other objects."""

OF_THIS_OBJECT: Final = frozenset(
    (Evidence.ANCHORED_PIECE, Evidence.ANCHORED_WHOLE, Evidence.NAME, Evidence.DIGEST_FIELD)
)
"""For this one object, other sources come first. Not where it is one source's manifest against another one's bytes."""

_BY_ANCHOR: Final = {"name": Evidence.NAME, "digest_field": Evidence.DIGEST_FIELD}


def fault_evidence(error: UpstreamError) -> Evidence | None:
    """What an error of asking a source is evidence of; None for wrong bytes, which have evidence of their own."""
    if isinstance(error, BadPiece | WrongContent | NoSource):
        return None
    if isinstance(error, OriginStatus):
        return Evidence.FAILURE if meaning_of(error.status).source_failed else Evidence.REFUSAL
    if isinstance(error, GenerationChanged):
        return Evidence.OTHER_GENERATION
    return Evidence.CONTRADICTION if isinstance(error, BadAnswer) else Evidence.TRANSPORT


def piece_evidence(manifest_trust: Trust, sources: set[str]) -> Evidence:
    """What a piece that contradicts a manifest, or its record, is evidence of; ``sources`` gave its bytes."""
    if len(sources) != 1:
        return Evidence.SEVERAL_SOURCES
    if manifest_trust is Trust.SIMPLE:
        return Evidence.RECORD
    return Evidence.ANCHORED_PIECE if manifest_trust is Trust.ANCHORED else Evidence.PLAIN_PIECE


def whole_evidence(claim: Claim, sources: set[str]) -> Evidence:
    """What a whole that contradicts a claim is evidence of; an empty name stands for bytes of unknown origin."""
    if len(sources) != 1 or "" in sources:
        return Evidence.SEVERAL_SOURCES
    return _BY_ANCHOR.get(claim.anchor, Evidence.ANCHORED_WHOLE if claim.authentic else Evidence.DIGEST_FIELD)
