"""The rule for content that is stored already, row by row."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.release import Reason, Verdict
from cacheserver.core.integrity.stored_trust import Judgement, StoredContent, fingerprint, judge_stored, satisfies
from cacheserver.core.integrity.trust import Claim, Statements, Trust

OWN = Manifest(3, 1 << 20, hashlib.sha256(b"abc").digest())
SHA1 = hashlib.sha1(b"abc").digest()
CONTENT = StoredContent(3, complete=True, trust=Trust.SIMPLE, hash_of_hashes=None, statements="")
CHECKED = replace(CONTENT, trust=Trust.SELF_CONSISTENT, hash_of_hashes=OWN.hash_of_hashes)
PART = replace(CONTENT, complete=False)
RIGHT_PIECES = Claim("catalogue", authentic=True, hash_of_hashes=OWN.hash_of_hashes)
WRONG_PIECES = Claim("catalogue", authentic=True, hash_of_hashes=bytes(32))
DIGEST = Claim("c", authentic=True, manifest_digest=OWN.digest)
RIGHT_WHOLE = Claim("catalogue", authentic=True, sha1=SHA1)
WRONG_WHOLE = Claim("catalogue", authentic=True, sha1=bytes(20))
NAME = Claim("name", authentic=True, sha1=SHA1)
FITS, DIFFERS = frozenset((RIGHT_PIECES,)), frozenset[Claim]()
KEEP, READ, WITHHOLD, REMOVE = "keep", "read", "withhold", "remove"
SIMPLE, CHECKED_LEVEL, ANCHORED = Trust


def outcome_of(judgement: Judgement) -> str:
    """What becomes of the content."""
    if judgement.verdict is Verdict.HOLD:
        return READ if judgement.names else WITHHOLD
    return {Verdict.RELEASE: KEEP, Verdict.REFUSE: REMOVE}[judgement.verdict]


@pytest.mark.parametrize(
    ("content", "claims", "outcome", "trust"),
    [
        (CONTENT, [], KEEP, SIMPLE),
        (CONTENT, [Claim("c", authentic=True, length_bytes=4)], REMOVE, SIMPLE),
        (CONTENT, [Claim("c", authentic=True, length_bytes=3)], KEEP, SIMPLE),
        (CHECKED, [RIGHT_PIECES], KEEP, ANCHORED),
        (CHECKED, [WRONG_PIECES], REMOVE, CHECKED_LEVEL),
        (replace(CONTENT, pieces_of=FITS), [RIGHT_PIECES], KEEP, ANCHORED),
        (replace(CONTENT, pieces_of=DIFFERS), [WRONG_PIECES], REMOVE, SIMPLE),
        (replace(CHECKED, hash_of_hashes=bytes(32), pieces_of=FITS), [RIGHT_PIECES], KEEP, ANCHORED),
        (CONTENT, [WRONG_PIECES], KEEP, SIMPLE),
        (replace(CONTENT, pieces_of=frozenset((DIGEST,))), [DIGEST], KEEP, ANCHORED),
        (replace(CONTENT, pieces_of=DIFFERS), [DIGEST], REMOVE, SIMPLE),
        (CONTENT, [DIGEST], KEEP, SIMPLE),
        (CONTENT, [RIGHT_WHOLE], READ, SIMPLE),
        (replace(CONTENT, found={"sha1": SHA1}), [RIGHT_WHOLE], KEEP, ANCHORED),
        (replace(CONTENT, found={"sha1": SHA1}), [WRONG_WHOLE], REMOVE, SIMPLE),
        (replace(CONTENT, found={"sha1": SHA1}), [RIGHT_WHOLE, WRONG_WHOLE], REMOVE, SIMPLE),
        (PART, [WRONG_WHOLE], KEEP, SIMPLE),
        (replace(CONTENT, trust=ANCHORED), [NAME], KEEP, ANCHORED),
        (replace(CONTENT, trust=ANCHORED), [WRONG_WHOLE], READ, ANCHORED),
        (CHECKED, [replace(WRONG_PIECES, authentic=False)], KEEP, CHECKED_LEVEL),
    ],
)
def test_what_anchors_say_is_held_against_what_is_stored(
    content: StoredContent, claims: list[Claim], outcome: str, trust: Trust
) -> None:
    judgement = judge_stored(content, Statements.of(claims), require="any")
    assert (outcome_of(judgement), judgement.trust, judgement.settled) == (outcome, trust, True)


@pytest.mark.parametrize(
    ("content", "told", "outcome"),
    [
        (CHECKED, Statements(), REMOVE),
        (CHECKED, Statements.of((), ("content_policy",)), WITHHOLD),
        (CHECKED, Statements.of((RIGHT_PIECES,)), KEEP),
        (CONTENT, Statements.of((NAME,)), READ),
        (PART, Statements.of((NAME,)), KEEP),
        (replace(CONTENT, trust=ANCHORED), Statements(), KEEP),
    ],
)
def test_what_no_anchor_confirms_is_removed_where_one_is_demanded(
    content: StoredContent, told: Statements, outcome: str
) -> None:
    assert outcome_of(judge_stored(content, told, require="anchored")) == outcome
    assert outcome_of(judge_stored(content, told, require="any")) in (KEEP, READ)


def test_trust_goes_with_the_claim_that_gave_it() -> None:
    known = replace(CHECKED, trust=ANCHORED, statements=fingerprint((RIGHT_PIECES,)))
    assert judge_stored(known, Statements(), require="any").trust is CHECKED_LEVEL
    assert judge_stored(replace(known, hash_of_hashes=None), Statements(), require="any").trust is SIMPLE
    assert judge_stored(known, Statements(), require="anchored").reason is Reason.NOT_ANCHORED


def test_trust_from_a_signed_bundle_stays() -> None:
    imported = replace(CHECKED, trust=ANCHORED)
    assert judge_stored(imported, Statements(), require="anchored").trust is ANCHORED


def test_unknown_takes_no_trust_away_and_is_not_settled() -> None:
    known = replace(CHECKED, trust=ANCHORED, statements="0" * 16)
    judgement = judge_stored(known, Statements.of((), ("edge_cdp",)), require="anchored")
    assert (outcome_of(judgement), judgement.trust, judgement.settled) == (KEEP, ANCHORED, False)
    assert judgement.reason is Reason.STORED_IS_PENDING


def test_fingerprint_follows_what_catalogues_and_names_say_alone() -> None:
    assert fingerprint(()) == ""
    assert fingerprint((replace(NAME, authentic=False), replace(NAME, anchor="content_policy"))) == ""
    assert fingerprint((NAME, RIGHT_PIECES)) == fingerprint((RIGHT_PIECES, NAME))
    assert len({fingerprint(each) for each in ((NAME,), (RIGHT_PIECES,), (WRONG_PIECES,), (NAME, RIGHT_PIECES))}) == 4


def test_incomplete_content_counts_as_anchored_by_what_will_be_checked_with_its_last_piece() -> None:
    assert satisfies(PART, (NAME,))
    assert not satisfies(CONTENT, (NAME,))
    assert not satisfies(PART, (replace(NAME, authentic=False),))
    assert satisfies(replace(CONTENT, trust=ANCHORED), ())
