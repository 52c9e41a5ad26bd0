"""Faulty origins against a verifying node: no wrong byte is delivered as complete, none is kept.

Every fault is played with the content anchored by a signed catalogue, with a manifest that is only right in itself,
with no manifest at all, with no more than a digest of the whole, and with a manifest for a content that must not be
stored; to a first client while it lasts, and to a second one when it is over.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.node.test_origin_faults import FAULTS
from tests.node.verified_play import Case, Played, play
from tests.node.verified_rows import (
    BY_CHANCE,
    HEALED_BY_ITSELF,
    LYING,
    REFUSED,
    RIGHT_ALL_THE_SAME,
    SLOW_MANIFEST,
    WRONG_BYTES,
    Row,
    content_rows,
    manifest_rows,
)

pytestmark = pytest.mark.timeout(240)
"""The whole table is played by whichever test comes first."""
MODES = ("anchored", "self-consistent", "simple")
VERIFIED = MODES[:2]
SMALL, REAL = 1 << 16, 1 << 20
CONTENT, MANIFEST = content_rows(SMALL), manifest_rows()
ROWS: dict[Case, Row] = {(mode, name): row for mode in (*MODES, "digest", "pass") for name, row in CONTENT.items()} | {
    (mode, name): row for mode in VERIFIED for name, row in MANIFEST.items()
}
CHECKED = [case for case in ROWS if case[0] in VERIFIED]


def ids(case: Case) -> str:
    return ": ".join(case)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All rows, played side by side with pieces of 64 KiB."""
    return await play(tmp_path_factory.mktemp("verified"), ROWS, piece=SMALL)


def test_the_table_is_as_long_as_it_must_be() -> None:
    assert len(CONTENT) >= 33
    assert len(CONTENT) + len(MANIFEST) == len(CONTENT | MANIFEST)


@pytest.mark.parametrize("case", CHECKED, ids=ids)
def test_with_a_manifest_no_wrong_byte_is_delivered_and_none_is_kept(played: Played, case: Case) -> None:
    outcome = played.outcomes[case]
    assert all(step.word != "wrong" for step in outcome.first), outcome
    assert all(step.clean for step in outcome.first), outcome
    assert [step.word for step in outcome.second] == ["right", "right"], outcome


@pytest.mark.parametrize("name", CONTENT)
def test_without_a_manifest_only_wrong_bytes_of_the_right_length_are_missed(played: Played, name: str) -> None:
    outcome = played.outcomes["simple", name]
    assert outcome.missed == (name in WRONG_BYTES), outcome
    if name not in WRONG_BYTES:
        assert all(step.clean for step in outcome.first), outcome
        assert [step.word for step in outcome.second] == ["right", "right"], outcome


@pytest.mark.parametrize("name", CONTENT)
def test_with_a_digest_of_the_whole_nobody_gets_a_wrong_whole_and_none_is_kept(played: Played, name: str) -> None:
    outcome = played.outcomes["digest", name]
    assert outcome.first[-1].word != "wrong", outcome
    assert name in WRONG_BYTES or all(step.clean for step in outcome.first), outcome
    assert [step.word for step in outcome.second] == ["right", "right"], outcome
    assert played.after_restart["digest", name].word == "right"


@pytest.mark.parametrize("name", CONTENT)
def test_no_wrong_byte_passes_where_there_is_a_manifest(played: Played, name: str) -> None:
    outcome = played.outcomes["pass", name]
    assert all(step.word != "wrong" for step in outcome.first), outcome
    assert name not in WRONG_BYTES or all(step.clean for step in outcome.first), outcome
    assert [step.word for step in outcome.second] == ["right", "right"], outcome
    assert played.after_restart["pass", name].word == "error", "it must not be stored"


@pytest.mark.parametrize("mode", ["digest", "pass"])
@pytest.mark.parametrize("name", RIGHT_ALL_THE_SAME)
def test_an_odd_but_right_origin_is_no_loss_where_more_is_checked(played: Played, mode: str, name: str) -> None:
    assert [step.word for step in played.outcomes[mode, name].first] == ["right", "right"]


@pytest.mark.parametrize("case", CHECKED, ids=ids)
def test_after_a_restart_without_the_origin_what_is_left_is_right(played: Played, case: Case) -> None:
    assert played.after_restart[case].word == "right"


@pytest.mark.parametrize("mode", VERIFIED)
@pytest.mark.parametrize("name", sorted(HEALED_BY_ITSELF | RIGHT_ALL_THE_SAME.keys()))
def test_where_asking_again_is_enough_the_first_client_notices_nothing(played: Played, mode: str, name: str) -> None:
    outcome = played.outcomes[mode, name]
    assert [step.word for step in outcome.first] == ["right", "right"], outcome


@pytest.mark.parametrize("mode", VERIFIED)
@pytest.mark.parametrize("name", sorted(WRONG_BYTES.keys() - HEALED_BY_ITSELF - BY_CHANCE))
def test_lasting_wrong_bytes_end_in_a_cut_connection_or_an_error(played: Played, mode: str, name: str) -> None:
    assert played.outcomes[mode, name].first[-1].word in ("cut", "error")


@pytest.mark.parametrize("mode", VERIFIED)
@pytest.mark.parametrize("name", REFUSED | SLOW_MANIFEST)
def test_an_unusable_manifest_does_not_keep_right_bytes_from_the_client(played: Played, mode: str, name: str) -> None:
    outcome = played.outcomes[mode, name]
    assert [step.word for step in outcome.first] == ["right", "right"], outcome


@pytest.mark.parametrize("name", LYING)
def test_an_anchor_tells_a_lying_manifest_from_a_right_one(played: Played, name: str) -> None:
    assert [step.word for step in played.outcomes["anchored", name].first] == ["right", "right"]


def test_both_levels_and_every_refusal_are_counted(played: Played) -> None:
    for level in ("anchored", "self_consistent"):
        assert played.metrics.total("cacheserver_verified_pieces_total", level=level, result="ok") > 0
        assert played.metrics.total("cacheserver_verified_pieces_total", level=level, result="bad") > 0
        assert played.metrics.total("cacheserver_manifests_total", result=level) > 0
    for result in ("absent", "refused", "contradicts"):
        assert played.metrics.total("cacheserver_manifests_total", result=result) > 0
    assert played.metrics.total("cacheserver_source_bans_total") > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_whole_table_holds_with_pieces_of_one_mebibyte_and_ranges(tmp_path: Path) -> None:
    rows = {(mode, name): row for mode in MODES for name, row in content_rows(REAL).items()}
    rows |= {(mode, f"origin: {name}"): Row(fault=fault) for mode in MODES for name, fault in FAULTS.items()}
    rows |= {(mode, name): row for mode in VERIFIED for name, row in MANIFEST.items()}
    played = await play(tmp_path, rows, piece=REAL, ranges=True)
    for case, outcome in played.outcomes.items():
        assert outcome.missed == (case[0] == "simple" and case[1] in WRONG_BYTES), (case, outcome)
        if not outcome.missed:
            assert [step.word for step in outcome.second] == ["right", "right"], (case, outcome)
            assert played.after_restart[case].word in ("right", "error"), case  # what passed was not kept
