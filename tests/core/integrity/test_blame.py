"""Who is blamed for what, as the page for operators says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cacheserver.core.errors import (
    BadContentRange,
    BadPiece,
    ConnectFailed,
    GenerationChanged,
    OriginStatus,
    PageInstead,
    TruncatedBody,
    UpstreamError,
    UpstreamTimeout,
    WrongContent,
)
from cacheserver.core.integrity.blame import BLAME, Blame, Evidence, fault_evidence, piece_evidence, whole_evidence
from cacheserver.core.integrity.trust import Claim, Trust

PAGE = Path(__file__).resolve().parents[3] / "docs" / "integrity.md"
SHA1 = bytes(20)


def test_the_page_has_the_table() -> None:
    section = PAGE.read_text().partition("\n## Who is blamed\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)[1:]
    assert rows == [(evidence.value, blame.value) for evidence, blame in BLAME.items()]


def test_every_evidence_has_its_blame() -> None:
    assert set(BLAME) == set(Evidence)
    assert {each for each, blame in BLAME.items() if blame is Blame.STRIKE} == {
        Evidence.ANCHORED_PIECE,
        Evidence.ANCHORED_WHOLE,
    }


@pytest.mark.parametrize(
    ("trust", "sources", "evidence"),
    [
        (Trust.ANCHORED, {"a"}, Evidence.ANCHORED_PIECE),
        (Trust.SELF_CONSISTENT, {"a"}, Evidence.PLAIN_PIECE),
        (Trust.ANCHORED, {"a", "b"}, Evidence.SEVERAL_SOURCES),
        (Trust.ANCHORED, set(), Evidence.SEVERAL_SOURCES),
    ],
)
def test_a_bad_piece_is_evidence_against_the_one_that_gave_all_of_it(
    trust: Trust, sources: set[str], evidence: Evidence
) -> None:
    assert piece_evidence(trust, sources) is evidence


@pytest.mark.parametrize(
    ("anchor", "authentic", "sources", "evidence"),
    [
        ("catalogue", True, {"a"}, Evidence.ANCHORED_WHOLE),
        ("content_policy", True, {"a"}, Evidence.ANCHORED_WHOLE),
        ("edge_cdp", True, {"a"}, Evidence.ANCHORED_WHOLE),
        ("name", True, {"a"}, Evidence.NAME),
        ("digest_field", False, {"a"}, Evidence.DIGEST_FIELD),
        ("digest_field", True, {"a"}, Evidence.DIGEST_FIELD),
        ("catalogue", True, {"a", "b"}, Evidence.SEVERAL_SOURCES),
        ("catalogue", True, {""}, Evidence.SEVERAL_SOURCES),
    ],
)
def test_a_wrong_whole_is_evidence_by_who_said_so(
    anchor: str, authentic: bool, sources: set[str], evidence: Evidence
) -> None:
    assert whole_evidence(Claim(anchor, authentic=authentic, sha1=SHA1), sources) is evidence


@pytest.mark.parametrize(
    ("error", "evidence"),
    [
        (ConnectFailed("x"), Evidence.TRANSPORT),
        (UpstreamTimeout("x"), Evidence.TRANSPORT),
        (TruncatedBody("x"), Evidence.TRANSPORT),
        (OriginStatus(503), Evidence.FAILURE),
        (OriginStatus(403), Evidence.REFUSAL),
        (OriginStatus(429), Evidence.REFUSAL),
        (BadContentRange("x"), Evidence.CONTRADICTION),
        (PageInstead("x"), Evidence.CONTRADICTION),
        (GenerationChanged("x"), Evidence.OTHER_GENERATION),
        (BadPiece(0), None),
        (WrongContent("name"), None),
    ],
)
def test_an_error_of_asking_is_evidence_of_the_way_not_of_the_bytes(
    error: UpstreamError, evidence: Evidence | None
) -> None:
    assert fault_evidence(error) is evidence
    assert evidence is None or BLAME[evidence] in (Blame.RETRY, Blame.NOBODY), "it bans nobody"
