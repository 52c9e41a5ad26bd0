"""Judging stored content again: whether what anchors say now lets it be given out, and at which level of trust.

Owns: the rule for content that is stored already. Bytes that are on their way are judged elsewhere. Must not read
anything: what the rule needs is handed in, and it says when it needs the digests of the whole. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.trust import Claim, Statements, Trust

_OF_SETTINGS: Final = ("catalogue", "name")
"""Anchors whose claims follow from the target and the settings alone."""


class Verdict(Enum):
    """What becomes of a stored object."""

    KEEP = "it may be given out"
    READ = "digests of the whole are needed first"
    WITHHOLD = "it may not be given out yet: an anchor that may confirm it could not be asked"
    REMOVE = "something authentic contradicts it, or it is not what the service demands"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, the level that the content has earned, the reason of a removal, the digests to read."""

    verdict: Verdict
    trust: Trust
    reason: str = ""
    names: tuple[str, ...] = ()
    settled: bool = True
    """False: an anchor could not tell; to be judged again."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What is known of a stored object."""

    length_bytes: int
    complete: bool
    trust: Trust
    hash_of_hashes: bytes | None
    """Of the manifest that its pieces were held against."""
    statements: str
    """``fingerprint`` of what it was judged by last."""
    own: Manifest | None = None
    """Rebuilt from its pieces; None where that cannot be done, or was not needed."""
    found: Mapping[str, bytes] | None = None
    """Digests of the whole by hashlib name; None: not read."""


def fingerprint(claims: tuple[Claim, ...]) -> str:
    """16 hex digits that change with what catalogues and names say; empty where they say nothing.

    Stored with the object: it tells after a reload or a restart whether there is anything to judge.
    """
    told = sorted(repr(claim) for claim in claims if claim.authentic and claim.anchor in _OF_SETTINGS)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16] if told else ""


def satisfies(content: StoredContent, claims: tuple[Claim, ...]) -> bool:
    """Whether content that nothing contradicts counts as anchored; an incomplete one is judged with its last piece."""
    bound = any(claim.authentic and claim.whole_digests for claim in claims)
    return content.trust is Trust.ANCHORED or (bound and not content.complete)


def judge_stored(content: StoredContent, told: Statements, *, require_anchored: bool) -> Judgement:
    """Hold stored content against what anchors say now.

    A hash of hashes is compared with that of the manifest it was checked against and with that of its own pieces; a
    digest of the whole is read once. Trust that came from a claim that is not made any more is lost; trust from
    elsewhere (a signed bundle) stays. Unknown is not none: it takes no trust away.
    """
    authentic = [claim for claim in told if claim.authentic]
    anchored, names = False, set[str]()
    for claim in authentic:
        by_pieces = _by_pieces(claim, content)
        by_whole = _by_whole(claim, content)
        if False in (by_pieces, by_whole) or claim.length_bytes not in (None, content.length_bytes):
            return Judgement(Verdict.REMOVE, content.trust, f"it is not what {claim.anchor} says")
        anchored = anchored or bool(by_pieces) or bool(by_whole)
        if by_whole is None and not by_pieces and not (claim.anchor == "name" and content.trust is Trust.ANCHORED):
            names |= claim.whole_digests.keys()
    if names and content.complete and not anchored:
        return Judgement(Verdict.READ, content.trust, names=tuple(sorted(names)))
    trust = Trust.ANCHORED if anchored else _left(content, told)
    settled = not told.unknown or anchored
    if not require_anchored or anchored or trust is Trust.ANCHORED or (names and not content.complete):
        return Judgement(Verdict.KEEP, trust, settled=settled)
    if not settled:
        return Judgement(Verdict.WITHHOLD, trust, settled=False)
    return Judgement(Verdict.REMOVE, trust, "nothing anchors it, which its service demands")


def _by_pieces(claim: Claim, content: StoredContent) -> bool | None:
    """Whether the pieces are those that a claim binds; None where it binds none, or they cannot be compared."""
    own = content.own
    if claim.hash_of_hashes is not None:
        known = {content.hash_of_hashes, own.hash_of_hashes if own is not None else None} - {None}
        if known and claim.hash_of_hashes not in known:
            return False
        return True if known else None
    if claim.manifest_digest is not None and own is not None:
        return claim.manifest_digest == own.digest
    return None


def _by_whole(claim: Claim, content: StoredContent) -> bool | None:
    """Whether the whole has the digests of a claim; None where it names none, or they were not read."""
    wanted = claim.whole_digests
    if not wanted or content.found is None or not wanted.keys() <= content.found.keys():
        return None
    return all(content.found[name] == digest for name, digest in wanted.items())


def _left(content: StoredContent, told: Statements) -> Trust:
    """The level where nothing anchors the content now."""
    if content.trust is not Trust.ANCHORED or told.unknown or not content.statements:
        return content.trust
    if content.statements == fingerprint(told):
        return content.trust
    return Trust.SIMPLE if content.hash_of_hashes is None else Trust.SELF_CONSISTENT
