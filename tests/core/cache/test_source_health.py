"""Strikes, bans and demotions of sources."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.source_health import MAX_OBJECTS, MAX_SOURCES, Ban, SourceHealth

BAD, GOOD = "http://bad.example:80", "http://good.example:80"


def banned(health: SourceHealth) -> SourceHealth:
    assert [health.strike(BAD, f"{now_s}", now_s) for now_s in (0.0, 1.0, 2.0)] == [False, False, True]
    return health


def test_three_strikes_ban_a_source_until_the_ban_ends() -> None:
    health = banned(SourceHealth(ban_s=100.0))
    assert health.order((BAD, GOOD), 101.9) == [GOOD]
    assert health.bans(2.0) == [Ban(BAD, 100.0)]
    assert health.order((BAD, GOOD), 102.0) == [BAD, GOOD]
    assert health.bans(102.0) == []


def test_strikes_count_anew_after_a_ban_and_after_a_pause() -> None:
    health = banned(SourceHealth(ban_s=100.0))
    assert not health.strike(BAD, "103.0", 103.0)
    assert not health.strike(BAD, "104.0", 104.0)
    assert not health.strike(BAD, "204.1", 204.1), "the one before is older than the ban lasts"
    assert not health.strike(BAD, "204.2", 204.2)
    assert health.strike(BAD, "204.3", 204.3)


@pytest.mark.parametrize("others", [MAX_SOURCES, 4 * MAX_SOURCES])
def test_failures_of_others_push_out_neither_a_ban_nor_strikes(others: int) -> None:
    health = banned(SourceHealth())
    for now_s in (2.0, 3.0):
        health.strike(GOOD, f"{now_s}", now_s)
    for number in range(others):
        health.failed(f"http://host{number}.example:80", 4.0)
        health.succeeded(f"http://host{number}.example:80")
        health.failed(f"http://other{number}.example:80", 4.0)
    assert health.order((BAD,), 5.0) == []
    assert health.strike(GOOD, "third", 5.0)


def test_a_lifted_ban_ends_at_once_and_its_strikes_and_failures_are_forgotten() -> None:
    health = banned(SourceHealth())
    health.failed(BAD, 2.0)
    health.lift(BAD)
    assert health.order((BAD, GOOD), 3.0) == [BAD, GOOD]
    assert not health.strike(BAD, "a", 3.0)


def test_a_failed_source_comes_last_for_a_while_or_until_it_succeeds() -> None:
    health = SourceHealth(demotion_s=30.0)
    health.failed(BAD, 0.0)
    assert health.order((BAD, GOOD), 29.9) == [GOOD, BAD]
    assert health.order((BAD, GOOD), 30.0) == [BAD, GOOD]
    health.failed(BAD, 40.0)
    health.succeeded(BAD)
    assert health.order((BAD, GOOD), 41.0) == [BAD, GOOD]


def test_an_avoided_source_comes_after_a_failed_one() -> None:
    health = SourceHealth()
    health.failed(GOOD, 0.0)
    assert health.order((BAD, GOOD), 1.0, avoid=frozenset((BAD,))) == [GOOD, BAD]


def test_bad_bytes_of_one_object_are_one_strike() -> None:
    health = SourceHealth()
    assert not any(health.strike(BAD, "a", now_s) for now_s in range(10))
    assert not health.strike(BAD, "b", 10.0)
    assert health.strike(BAD, "c", 11.0)


def test_the_source_that_the_client_named_comes_last_when_banned_but_before_avoided_ones() -> None:
    health = banned(SourceHealth())
    assert health.order((BAD, GOOD), 3.0, named=BAD) == [GOOD, BAD]
    assert health.order((BAD,), 3.0, named=BAD) == [BAD]
    assert health.order((BAD, GOOD), 3.0, named=BAD, avoid=frozenset((GOOD,))) == [BAD, GOOD]


def test_a_demoted_source_comes_last_whatever_it_answers_until_that_ends() -> None:
    health = SourceHealth(ban_s=100.0)
    health.demote(BAD, 0.0)
    health.succeeded(BAD)
    assert health.order((BAD, GOOD), 99.0) == [GOOD, BAD]
    assert health.order((BAD,), 99.0) == [BAD]
    assert health.order((BAD, GOOD), 100.0) == [BAD, GOOD]
    assert health.bans(1.0) == []


def test_the_source_that_the_client_named_is_banned_only_for_verified_content() -> None:
    health = banned(SourceHealth())
    assert health.order((BAD,), 3.0, named=BAD) == [BAD]
    assert health.order((BAD,), 3.0, named=BAD, verified=True) == []
    assert health.order((BAD, GOOD), 3.0, named=GOOD) == [GOOD]


def test_the_source_that_the_client_named_is_not_demoted_for_bytes() -> None:
    health = SourceHealth()
    health.demote(BAD, 0.0)
    assert health.order((BAD, GOOD), 1.0, named=BAD) == [BAD, GOOD]


def test_a_source_of_wrong_bytes_comes_last_for_that_object_alone_and_for_a_while() -> None:
    health = SourceHealth(ban_s=100.0)
    health.contradicted(BAD, "a", 0.0)
    health.failed(GOOD, 1.0)
    assert health.order((BAD, GOOD), 2.0, object_id="a", named=BAD) == [GOOD, BAD]
    assert health.order((BAD, GOOD), 2.0, object_id="b") == [BAD, GOOD]
    assert [health.is_set_back(BAD, each, 2.0) for each in ("a", "b")] == [True, False]
    assert health.order((BAD, GOOD), 2.0, object_id="a", avoid=frozenset({GOOD})) == [BAD, GOOD]
    assert health.order((BAD, GOOD), 100.0, object_id="a") == [BAD, GOOD]


def test_of_several_sources_of_wrong_bytes_the_latest_comes_last() -> None:
    health = SourceHealth()
    for source in (BAD, GOOD, BAD):
        health.contradicted(source, "a", 0.0)
    assert health.order((BAD, GOOD), 1.0, object_id="a") == [GOOD, BAD]
    health.contradicted(GOOD, "a", 2.0)
    assert health.order((GOOD, BAD), 3.0, object_id="a") == [BAD, GOOD]


def test_wrong_bytes_are_forgotten_for_the_objects_of_a_source_whose_ban_is_lifted() -> None:
    health = SourceHealth()
    health.contradicted(BAD, "a", 0.0)
    health.contradicted(GOOD, "b", 0.0)
    health.lift(BAD)
    assert health.order((BAD, GOOD), 1.0, object_id="a") == [BAD, GOOD]
    assert health.order((GOOD, BAD), 1.0, object_id="b") == [BAD, GOOD]


def test_objects_with_wrong_bytes_are_remembered_within_a_bound() -> None:
    health = SourceHealth()
    for number in range(MAX_OBJECTS + 1):
        health.contradicted(BAD, str(number), 0.0)
    assert health.order((BAD, GOOD), 1.0, object_id="0") == [BAD, GOOD]
    assert health.order((BAD, GOOD), 1.0, object_id=str(MAX_OBJECTS)) == [GOOD, BAD]
