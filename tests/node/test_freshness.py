"""Freshness and revalidation of own services: RFC 9111 and RFC 5861 to the letter."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.content import Content, Fault, FieldLines, blob, http_date
from tests.support.ground import DO_HOST, FRESH, HOST, Ground, was_hit
from tests.support.record import RequestRecord
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
async def test_stale_if_error_hides_the_origins_trouble(ground: Ground, fault: Fault) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", "max-age=10, stale-if-error=600"), OLD), etag='"v1"')
    await ground.get(path)
    ground.origin.fault(path, always=fault)
    response = await ground.get(path)
    assert (response.status, response.body) == (200, BODY)
    assert int(response.fields.value("Age") or "0") >= 20


@pytest.mark.parametrize("directives", ["max-age=10", "max-age=10, stale-if-error=600, must-revalidate"])
async def test_without_leave_nothing_stale_is_served_on_errors(ground: Ground, directives: str) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", directives), OLD), etag='"v1"')
    await ground.get(path)
    ground.origin.fault(path, always=Fault.refusing(500))
    assert (await ground.get(path)).status in (500, 502, 504)
    ground.origin.heal(path)
    assert (await ground.get(path)).body == BODY


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


async def test_vary_keeps_one_answer_per_variant(ground: Ground) -> None:
    path = ground.new_path()

    def by_language(record: RequestRecord) -> Content:
        language = record.fields.value("Accept-Language") or "none"
        return Content(language.encode() * 1000, headers=(*FRESH, ("Vary", "Accept-Language")))

    ground.origin.add(path, by_language)
    for _ in range(2):
        for language in ("de", "en", "fr"):
            response = await ground.get(path, ("Accept-Language", language))
            assert response.body == language.encode() * 1000
            assert response.fields.value("Vary") == "Accept-Language"
        assert (await ground.get(path)).body == b"none" * 1000
    assert len(ground.origin.asked(path)) == 4


async def test_vary_with_a_star_is_never_reused(ground: Ground) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("Vary", "*")))
    for count in (1, 2, 3):
        assert (await ground.get(path)).body == BODY
        assert len(ground.origin.asked(path)) == count


@pytest.mark.parametrize(
    ("directives", "stored"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("s-maxage=60", True),
        ("max-age=60, must-revalidate", True),
    ],
)
async def test_an_answer_to_authorization_is_stored_only_with_leave(
    ground: Ground, directives: str, stored: bool
) -> None:
    path = ground.add(BODY, headers=(("Cache-Control", directives),))
    assert (await ground.get(path, ("Authorization", "Bearer s3cret"))).body == BODY
    assert ground.origin.asked(path)[0].fields.value("Authorization") == "Bearer s3cret"
    response = await ground.get(path)
    assert (response.status, response.body, was_hit(response)) == (200, BODY, stored)
    assert len(ground.origin.asked(path)) == (1 if stored else 2)


async def test_a_refusal_for_one_clients_credentials_does_not_reach_another(ground: Ground) -> None:
    path = ground.new_path()

    def guarded(record: RequestRecord) -> Content:
        if record.fields.value("Authorization") == "Bearer good":
            return Content(BODY, headers=FRESH)
        return Content(b"who are you?\n", etag=None, status=401, headers=(("WWW-Authenticate", "Bearer"),))

    ground.origin.add(path, guarded)
    for _ in range(2):
        assert (await ground.get(path, ("Authorization", "Bearer good"))).body == BODY
        refused = await ground.get(path)
        assert (refused.status, refused.fields.value("WWW-Authenticate")) == (401, "Bearer")


async def test_set_cookie_reaches_the_client_that_caused_it(ground: Ground) -> None:
    path = ground.add(BODY, headers=(*FRESH, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")))
    assert (await ground.get(path)).fields.lines("Set-Cookie") == ("a=1; Path=/", "b=2")


async def test_unknown_fields_are_kept_and_hop_by_hop_ones_are_not(ground: Ground) -> None:
    odd = (
        ("X-Dup", "one"),
        ("X-Dup", "two"),
        ("x-lOWer", "a  b"),
        ("X-Latin", "caf\xe9"),
        ("Content-Language", "de"),
        ("Content-Disposition", 'attachment; filename="a b.bin"'),
        ("Link", "<a>; rel=x"),
    )
    hop = (("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=9"), ("Proxy-Authenticate", "Basic"))
    path = ground.add(BODY, headers=(*FRESH, *odd, *hop))
    for _ in range(2):
        fields = (await ground.get(path)).fields
        assert fields.lines("X-Dup") == ("one", "two")
        assert fields.value("X-Latin") == "caf\xe9"
        for name, value in odd[2:]:
            assert fields.value(name) == value
        for name in ("X-Hop", "Keep-Alive", "Proxy-Authenticate"):
            assert name not in fields


@pytest.mark.parametrize("status", [404, 410])
async def test_a_shipped_services_404_is_repeated_from_memory_for_seconds(ground: Ground, status: int) -> None:
    path = ground.new_path()
    ground.origin.add(path, Content(b"gone\n", etag=None, status=status))
    for _ in range(3):
        assert (await ground.get(path, host=DO_HOST)).status == status
        assert (await ground.get_as_client(path, host=DO_HOST)).status == 502
    assert len(ground.origin.asked(path)) == 1


async def test_an_own_services_404_is_asked_for_again(ground: Ground) -> None:
    path = ground.new_path()
    assert (await ground.get(path)).status == 404
    ground.origin.add(path, Content(BODY, headers=FRESH))
    response = await ground.get(path)
    assert (response.status, response.body) == (200, BODY)


async def test_a_shipped_services_path_stays_fresh_however_old_the_answer_is(ground: Ground) -> None:
    path = ground.add(BODY, headers=(("Age", "8640000"),), last_modified=http_date(time.time() - 100))
    for _ in range(2):
        assert (await ground.get_as_client(path, host=DO_HOST)).body == BODY
    assert len(ground.origin.asked(path)) == 1


async def test_two_hosts_of_two_services_never_share_freshness(ground: Ground) -> None:
    path = ground.add(BODY)
    await ground.get(path)
    response = await ground.get(path, host="mirror.example.test")
    assert not was_hit(response)
    assert [r.fields.value("Host") for r in ground.origin.asked(path)] == [HOST, "mirror.example.test"]
