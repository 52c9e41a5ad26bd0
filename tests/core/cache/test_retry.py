"""The rule by which a body goes on after its source has failed."""

from __future__ import annotations

from itertools import product

import pytest

from cacheserver.core.cache.retry import Failure, Retry, after
from cacheserver.core.errors import BadPiece, GenerationChanged, TruncatedBody, UpstreamError, WrongContent

BROKEN, BAD, WRONG, CHANGED = TruncatedBody("early"), BadPiece(3), WrongContent("name"), GenerationChanged("other")


@pytest.mark.parametrize(
    ("error", "in_a_row", "sources_left", "then"),
    [
        (BROKEN, 1, True, Retry.AGAIN),
        (BROKEN, 2, False, Retry.AGAIN),
        (BROKEN, 3, True, Retry.GIVE_UP),
        (BAD, 0, True, Retry.ELSEWHERE),
        (BAD, 9, True, Retry.ELSEWHERE),
        (BAD, 0, False, Retry.GIVE_UP),
        (WRONG, 0, True, Retry.GIVE_UP),
        (CHANGED, 1, True, Retry.GIVE_UP),
    ],
)
def test_what_follows_a_failure(error: UpstreamError, in_a_row: int, sources_left: bool, then: Retry) -> None:
    assert after(Failure(error, in_a_row, 3, resumable=True, sources_left=sources_left)) is then


@pytest.mark.parametrize(("error", "left"), [*product((BROKEN, BAD, WRONG, CHANGED), (False, True))])
def test_what_cannot_be_continued_is_given_up(error: UpstreamError, left: bool) -> None:
    assert after(Failure(error, 1, 3, resumable=False, sources_left=left)) is Retry.GIVE_UP
