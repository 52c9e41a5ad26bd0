"""What a status of an origin means: one table, walked over every status."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.origin_status import StatusMeaning, meaning_of
from cacheserver.core.errors import OriginStatus
from cacheserver.core.http.fields import Fields

M = StatusMeaning
SINGLE = {404: M.GONE, 410: M.GONE, 408: M.TRY_LATER, 425: M.TRY_LATER, 429: M.TRY_LATER} | dict.fromkeys(
    (502, 503, 504), M.OUTAGE
)
CLASSES = {1: M.ANSWER, 2: M.ANSWER, 3: M.ANSWER, 4: M.CLIENTS_OWN, 5: M.FAULT}


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_the_meaning_of_its_own_or_of_its_class(status: int) -> None:
    assert meaning_of(status) is SINGLE.get(status, CLASSES[status // 100])


@pytest.mark.parametrize(
    ("meaning", "for_all", "ends_object", "source_failed", "passing"),
    [
        (M.ANSWER, True, True, False, False),
        (M.GONE, True, True, False, False),
        (M.CLIENTS_OWN, False, False, False, False),
        (M.TRY_LATER, False, False, False, True),
        (M.FAULT, True, False, True, True),
        (M.OUTAGE, True, False, True, True),
    ],
)
def test_what_follows_from_each_meaning(
    meaning: M, for_all: bool, ends_object: bool, source_failed: bool, passing: bool
) -> None:
    found = (meaning.for_all, meaning.ends_object, meaning.source_failed, meaning.passing)
    assert found == (for_all, ends_object, source_failed, passing)


@pytest.mark.parametrize(("status", "retryable"), [(403, False), (404, False), (429, True), (500, True), (503, True)])
def test_an_error_made_of_an_answer_carries_what_the_answer_said(status: int, retryable: bool) -> None:
    error = OriginStatus(status, Fields([("Retry-After", "120")]), source="http://a.test:80")
    assert (error.status, error.retryable, error.retry_after) == (status, retryable, "120")
    assert (error.source, str(error)) == ("http://a.test:80", f"origin answered {status}")
    assert OriginStatus(status).retry_after is None
