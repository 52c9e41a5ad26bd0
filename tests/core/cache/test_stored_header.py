"""What is known of a representation comes back from the disk as it was, and from a later version as far as it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheserver.core.cache.stored_header import RepresentationFacts, facts_of
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Trust
from tests.support.stored import representation


@pytest.mark.parametrize("invalidated", [True, False])
@pytest.mark.parametrize("trust", list(Trust))
def test_a_representation_comes_back_from_its_facts(trust: Trust, invalidated: bool) -> None:
    known = replace(representation(), trust=trust, invalidated=invalidated)
    assert RepresentationFacts(**facts_of(known)).representation() == known


def test_a_trust_level_of_a_later_version_counts_as_none() -> None:
    facts = {**facts_of(representation()), "trust": 99}
    assert RepresentationFacts(**facts).representation().trust is Trust.SIMPLE


def test_a_304_ends_an_invalidation() -> None:
    known = replace(representation(), invalidated=True)
    fresh = known.refreshed(Fields((("A", "1"), ("B", "2"))), request_time_s=5.0, response_time_s=6.0)
    assert (fresh.invalidated, fresh.request_time_s, fresh.response_time_s, len(fresh.fields)) == (False, 5.0, 6.0, 2)
