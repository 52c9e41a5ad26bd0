"""Who may get a stored answer again, and with which fields: Vary, Authorization, unknown fields, refusals."""

from __future__ import annotations

import time

import pytest

from tests.support.content import Content, blob, http_date
from tests.support.ground import DO_HOST, FRESH, HOST, Ground, was_hit
from tests.support.record import RequestRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = blob(44, 20_000)


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
