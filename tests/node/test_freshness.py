"""Freshness and revalidation of own services: RFC 9111 and RFC 5861 to the letter."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support.content import Content, Fault, FieldLines, blob, http_date
from tests.support.ground import FRESH, Ground, was_hit
from tests.support.tables import cases

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = blob(41, 20_000)
OLD = ("Age", "20")
"""Makes an answer with ``max-age=10`` stale when it arrives."""


def field_lines(pairs: list[list[str]]) -> FieldLines:
    now_s = time.time()
    return tuple((n, http_date(now_s + int(v[1:])) if v.startswith("@") else v) for n, v in pairs)


def assert_went(ground: Ground, path: str, second: str) -> None:
    """The origin saw one request, or two of which the second is of the named kind."""
    records = ground.origin.asked(path)
    assert "If-None-Match" not in records[0].fields
    if second == "hit":
        assert len(records) == 1
        return
    assert len(records) == 2
    assert ("If-None-Match" in records[1].fields) == (second == "validated")
    assert (records[1].status == 304) == (second == "validated")


@pytest.mark.parametrize("case", cases("freshness.toml", "response"))
async def test_the_answers_fields_decide_what_the_second_request_does(ground: Ground, case: dict[str, Any]) -> None:
    lines = field_lines(case["fields"])
    path = ground.add(BODY, headers=lines, etag='"v1"' if case.get("etag", True) else None)
    for _ in range(2):
        response = await ground.get(path)
        assert (response.status, response.body) == (200, BODY)
    assert_went(ground, path, case["second"])
    assert was_hit(response) == (case["second"] == "hit")


@pytest.mark.parametrize("case", cases("freshness.toml", "request"))
async def test_the_requests_directives_are_obeyed(ground: Ground, case: dict[str, Any]) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("Age", "10")), etag='"v1"')
    await ground.get(path)
    response = await ground.get(path, *field_lines(case["fields"]))
    assert (response.status, response.body) == (200, BODY)
    assert_went(ground, path, case["second"])


async def test_only_if_cached_without_a_stored_answer_is_504(ground: Ground) -> None:
    path = ground.add(BODY)
    assert (await ground.get(path, ("Cache-Control", "only-if-cached"))).status == 504
    assert not ground.origin.asked(path)


async def test_no_store_of_a_request_leaves_nothing_behind(ground: Ground) -> None:
    path = ground.add(BODY)
    assert (await ground.get(path, ("Cache-Control", "no-store"))).body == BODY
    assert (await ground.get(path)).body == BODY
    assert_went(ground, path, "fetched")


async def test_a_304_brings_new_fields_and_a_new_lifetime(ground: Ground) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", "max-age=10"), OLD, ("X-Revision", "1")), etag='"v1"')
    assert (await ground.get(path)).fields.value("X-Revision") == "1"
    ground.origin.add(path, Content(BODY, etag='"v1"', headers=(*FRESH, ("X-Revision", "2"))))
    validated, hit = await ground.get(path), await ground.get(path)
    for response in (validated, hit):
        assert (response.status, response.body) == (200, BODY)
        assert response.fields.lines("X-Revision") == ("2",)
        assert response.fields.lines("Cache-Control") == ("max-age=3600",)
    assert_went(ground, path, "validated")
    assert was_hit(hit)
    assert ground.origin.body_bytes(path) == len(BODY)


async def test_a_changed_object_replaces_the_stored_one(ground: Ground) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", "max-age=10"), OLD), etag='"v1"')
    await ground.get(path)
    new = blob(42, 30_000)
    ground.origin.add(path, Content(new, etag='"v2"', headers=FRESH))
    changed, hit = await ground.get(path), await ground.get(path)
    for response in (changed, hit):
        assert (response.status, response.body, response.fields.value("ETag")) == (200, new, '"v2"')
    assert was_hit(hit)
    assert len(ground.origin.asked(path)) == 2


async def test_last_modified_alone_validates_too(ground: Ground) -> None:
    date = http_date(time.time() - 1000)
    path = ground.add(BODY, headers=(("Cache-Control", "no-cache"),), etag=None, last_modified=date)
    for _ in range(2):
        assert (await ground.get(path)).body == BODY
    second = ground.origin.asked(path)[1]
    assert (second.fields.value("If-Modified-Since"), second.status) == (date, 304)


async def test_stale_while_revalidate_serves_at_once_and_revalidates_behind(ground: Ground) -> None:
    stale = (("Cache-Control", "max-age=10, stale-while-revalidate=600"), OLD)
    path = ground.add(BODY, headers=stale, etag='"v1"')
    await ground.get(path)
    gate = ground.origin.gate(path)
    for _ in range(2):
        assert (await ground.get(path)).body == BODY
    await gate.reached()
    ground.origin.add(path, Content(BODY, etag='"v1"', headers=FRESH))
    gate.open()
    await ground.origin.wait_done(path)
    assert_went(ground, path, "validated")
    assert (await ground.get(path)).body == BODY


async def test_beyond_stale_while_revalidate_the_client_waits(ground: Ground) -> None:
    path = ground.add(
        BODY, headers=(("Cache-Control", "max-age=10, stale-while-revalidate=5"), ("Age", "60")), etag='"v1"'
    )
    await ground.get(path)
    new = blob(43, 1000)
    ground.origin.add(path, Content(new, etag='"v2"', headers=FRESH))
    assert (await ground.get(path)).body == new


@pytest.mark.parametrize("fault", [Fault.refusing(500), Fault.refusing(503), Fault(close_before_head=True)], ids=str)
@pytest.mark.parametrize("directives", ["max-age=10, stale-if-error=600", "max-age=10"])
async def test_stale_if_error_of_origin_or_setting_hides_the_origins_trouble(
    ground: Ground, directives: str, fault: Fault
) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", directives), OLD), etag='"v1"')
    await ground.get(path)
    ground.origin.fault(path, always=fault)
    response = await ground.get(path)
    assert (response.status, response.body) == (200, BODY)
    assert int(response.fields.value("Age") or "0") >= 20


@pytest.mark.parametrize(
    "directives", ["max-age=10, stale-if-error=1", "max-age=10, stale-if-error=600, must-revalidate"]
)
async def test_without_leave_nothing_stale_is_served_on_errors(ground: Ground, directives: str) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", directives), OLD), etag='"v1"')
    await ground.get(path)
    ground.origin.fault(path, always=Fault.refusing(500))
    assert (await ground.get(path)).status in (500, 502, 504)
    ground.origin.heal(path)
    assert (await ground.get(path)).body == BODY


async def test_who_may_have_stale_content_does_not_wait_for_an_origin_that_hangs(ground: Ground) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", "max-age=10"), OLD), etag='"v1"')
    await ground.get(path)
    gate = ground.origin.gate(path)
    async with asyncio.timeout(10):
        assert (await ground.get(path)).body == BODY
    gate.open()
    await ground.origin.wait_done(path)


async def test_age_counts_on_from_the_origins(ground: Ground) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("Age", "100")))
    for _ in range(2):
        response = await ground.get(path)
        assert 100 <= int(response.fields.value("Age") or "-1") < 160
    assert len(response.fields.lines("Age")) == 1


async def test_a_hit_has_an_age_and_the_origins_date(ground: Ground) -> None:
    date = http_date(time.time() - 30)
    path = ground.add(BODY, headers=(*FRESH, ("Date", date)))
    await ground.get(path)
    response = await ground.get(path)
    assert 30 <= int(response.fields.value("Age") or "-1") < 90
    assert response.fields.lines("Date") == (date,)


async def test_cache_status_and_via_tell_what_happened(ground: Ground) -> None:
    path = ground.add(BODY)
    miss, hit = await ground.get(path), await ground.get(path)
    assert "fwd=" in (miss.fields.value("Cache-Status") or "")
    assert not was_hit(miss)
    assert was_hit(hit)
    for response in (miss, hit):
        assert (response.fields.value("Via") or "").startswith("1.1 ")


async def test_a_request_that_passed_here_before_is_a_loop(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    via = ground.origin.asked(path)[0].fields.value("Via")
    assert via is not None
    response = await ground.get(path, ("Via", f"1.0 other, {via}, 1.1 next (comment)"))
    assert response.status == 508
    assert (await ground.get(path, ("Via", "1.1 another-node"))).status == 200
