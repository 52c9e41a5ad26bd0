"""Judging stored content again: whether what anchors say now lets it be given out, and at which level of trust.

Owns: what the statements about content at rest amount to; ``release`` decides what follows. Must not read anything:
what it needs is handed in, and it says when it needs the digests of the whole. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cacheserver.core.integrity.release import Facts, Reason, Said, Verdict, decide
from cacheserver.core.integrity.trust import Claim, Statements, Trust

_OF_SETTINGS: Final = ("catalogue", "name")
"""Anchors whose claims follow from the target and the settings alone."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of stored content: it is given out, waits or is removed; and the level that it has earned."""

    verdict: Verdict
    reason: Reason
    trust: Trust
    anchor: str = ""
    """Who contradicts it."""
    names: tuple[str, ...] = ()
    """Digests of the whole to be read, by hashlib name, where it waits for them."""
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
    pieces_of: frozenset[Claim] | None = None
    """Claims that determine the digests of its pieces, and rightly; None where that was not looked at."""
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


def judge_stored(content: StoredContent, told: Statements, *, require: str) -> Judgement:
    """Hold stored content against what anchors say now.

    A hash of hashes is compared with that of the manifest it was checked against and with that of its own pieces; a
    digest of the whole is read once. Trust that came from a claim that is not made any more is lost; trust from
    elsewhere (a signed bundle) stays. Unknown is not none: it takes no trust away.
    """
    anchored, anchor, names = False, "", set[str]()
    for claim in (claim for claim in told if claim.authentic):
        by_pieces, by_whole = _by_pieces(claim, content), _by_whole(claim, content)
        if False in (by_pieces, by_whole) or claim.length_bytes not in (None, content.length_bytes):
            anchor = anchor or claim.anchor
        anchored = anchored or bool(by_pieces) or bool(by_whole)
        if by_whole is None and not by_pieces and not (claim.anchor == "name" and content.trust is Trust.ANCHORED):
            names |= claim.whole_digests.keys()
    said = _said(content, told, contradicted=bool(anchor), anchored=anchored, unread=bool(names))
    read = tuple(sorted(names)) if said is Said.UNCOMPARED else ()
    trust = content.trust if anchor or read else Trust.ANCHORED if anchored else _left(content, told)
    facts = Facts(whole=said, authentic=trust is Trust.ANCHORED or bool(names), require=require, stored=True)
    rule = decide(facts)
    return Judgement(rule.verdict, rule.reason, trust, anchor, read, settled=not told.unknown or anchored)


def _said(content: StoredContent, told: Statements, *, contradicted: bool, anchored: bool, unread: bool) -> Said:
    """What all that is said of the whole amounts to; an incomplete one is compared with its last piece."""
    if contradicted:
        return Said.CONTRADICTS
    if anchored:
        return Said.AGREES
    if unread and content.complete:
        return Said.UNCOMPARED
    return Said.PENDING if told.unknown else Said.NOTHING


def _by_pieces(claim: Claim, content: StoredContent) -> bool | None:
    """Whether the pieces are those that a claim binds; None where it binds none, or they cannot be compared."""
    if not claim.states_pieces:
        return None
    known = content.hash_of_hashes
    if claim.manifest_digest is None and claim.hash_of_hashes == known:
        return True
    if content.pieces_of is not None:
        return claim in content.pieces_of
    return None if claim.hash_of_hashes is None or known is None else False


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
