"""The rule by which a body goes on after its source has failed."""

from __future__ import annotations

from itertools import product

import pytest

from cacheserver.core.errors import BadPiece, GenerationChanged, TruncatedBody, UpstreamError, WrongContent
from cacheserver.fill.relay.retry import Retry, after

BROKEN, BAD, WRONG, CHANGED = TruncatedBody("early"), BadPiece(3), WrongContent("name"), GenerationChanged("other")


@pytest.mark.parametrize(
    ("error", "tries_left", "sources_left", "then"),
    [
        (BROKEN, 2, True, Retry.AGAIN),
        (BROKEN, 1, False, Retry.AGAIN),
        (BROKEN, 0, True, Retry.GIVE_UP),
        (BAD, 1, True, Retry.ELSEWHERE),
        (BAD, 0, True, Retry.ELSEWHERE),
        (BAD, 1, False, Retry.GIVE_UP),
        (WRONG, 2, True, Retry.GIVE_UP),
        (CHANGED, 2, True, Retry.GIVE_UP),
    ],
)
def test_what_follows_a_failure(error: UpstreamError, tries_left: int, sources_left: bool, then: Retry) -> None:
    assert after(error, resumable=True, sources_left=sources_left, tries_left=tries_left) is then


@pytest.mark.parametrize(("error", "left"), [*product((BROKEN, BAD, WRONG, CHANGED), (False, True))])
def test_what_cannot_be_continued_is_given_up(error: UpstreamError, left: bool) -> None:
    assert after(error, resumable=False, sources_left=left, tries_left=2) is Retry.GIVE_UP
