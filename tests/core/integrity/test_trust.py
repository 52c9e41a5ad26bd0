"""What a manifest is worth beside the claims of anchors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.trust import Claim, Trust, judge_manifest

MANIFEST = Manifest(1_500_000, 1 << 20, bytes(range(64)))
RIGHT = Claim(
    anchor="catalogue",
    authentic=True,
    length_bytes=1_500_000,
    hash_of_hashes=MANIFEST.hash_of_hashes,
    manifest_digest=MANIFEST.digest,
    sha256=b"w" * 32,
)
BARE = Claim(anchor="name", authentic=True, sha1=b"s" * 20)


@pytest.mark.parametrize(
    ("claims", "level"),
    [
        ((), Trust.SELF_CONSISTENT),
        ((RIGHT,), Trust.ANCHORED),
        ((replace(RIGHT, manifest_digest=None),), Trust.ANCHORED),
        ((replace(RIGHT, hash_of_hashes=None),), Trust.ANCHORED),
        ((replace(RIGHT, length_bytes=None),), Trust.ANCHORED),
        ((replace(RIGHT, authentic=False),), Trust.SELF_CONSISTENT),
        ((replace(RIGHT, length_bytes=None, hash_of_hashes=None, manifest_digest=None),), Trust.SELF_CONSISTENT),
        ((BARE,), Trust.SELF_CONSISTENT),
        ((replace(BARE, length_bytes=1_500_000),), Trust.SELF_CONSISTENT),
        ((BARE, RIGHT), Trust.ANCHORED),
        ((RIGHT, BARE), Trust.ANCHORED),
    ],
)
def test_only_an_authentic_word_about_the_pieces_anchors_a_manifest(claims: tuple[Claim, ...], level: Trust) -> None:
    assert judge_manifest(MANIFEST, claims) is level


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (replace(RIGHT, length_bytes=1_500_001), "length"),
        (replace(RIGHT, hash_of_hashes=bytes(32)), "hash of hashes"),
        (replace(RIGHT, manifest_digest=bytes(32)), "digest"),
        (replace(BARE, length_bytes=0), "length"),
    ],
)
def test_authentic_contradiction_is_refused_whoever_else_agrees(wrong: Claim, what: str) -> None:
    for claims in ((wrong,), (RIGHT, wrong), (wrong, RIGHT)):
        with pytest.raises(ManifestError) as caught:
            judge_manifest(MANIFEST, claims)
        assert str(caught.value) == f"manifest's {what} is not what {wrong.anchor} says"


def test_contradiction_that_is_not_authentic_changes_nothing() -> None:
    lie = replace(RIGHT, authentic=False, hash_of_hashes=bytes(32), length_bytes=1)
    assert judge_manifest(MANIFEST, (lie,)) is Trust.SELF_CONSISTENT
    assert judge_manifest(MANIFEST, (lie, RIGHT)) is Trust.ANCHORED


def test_levels_are_ordered_and_have_words() -> None:
    assert [level.word for level in sorted(Trust)] == ["simple", "self_consistent", "anchored"]


def test_whole_digests_are_those_that_are_stated_by_their_hashlib_names() -> None:
    assert BARE.whole_digests == {"sha1": b"s" * 20}
    assert replace(BARE, sha256=b"w" * 32, md5=b"m" * 16).whole_digests == {
        "sha256": b"w" * 32,
        "sha1": b"s" * 20,
        "md5": b"m" * 16,
    }
    assert Claim(anchor="name", authentic=True).whole_digests == {}
