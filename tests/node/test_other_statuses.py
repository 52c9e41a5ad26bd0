"""Own services: answers of every final status are stored as RFC 9111 §3 and §4.2.2 permit, and given to the next."""

from __future__ import annotations

import pytest

from tests.support.content import Fault, blob
from tests.support.ground import DO_HOST, FRESH, HOST, Ground, GroundOptions, was_hit
from tests.support.operator import post

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(config="[upstream]\nretry_after_max_s = 0\n[fill]\nbackoff_s = 0.02\n")
BODY = blob(71, 10_000)


def failing(ground: Ground, status: int, *lines: tuple[str, str]) -> str:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault.refusing(status, *lines))
    return path


@pytest.mark.parametrize("status", [203, 299, 301, 307, 404, 410, 500, 599])
async def test_a_fresh_answer_is_given_to_the_next_client(ground: Ground, status: int) -> None:
    path = failing(ground, status, *FRESH, ("X-Of", "the origin"))
    first = await ground.get(path)
    asked = len(ground.origin.asked(path))
    for method, more in (("GET", ()), ("HEAD", ()), ("GET", (("Range", "bytes=0-1"),))):
        again = await ground.get(path, *more, method=method)
        assert (again.status, was_hit(again), again.complete) == (status, True, True)
        assert again.body == (b"" if method == "HEAD" else first.body)
        assert again.fields.value("X-Of") == "the origin"
        assert again.fields.value("Age") is not None
    assert len(ground.origin.asked(path)) == asked
    assert 500 <= (await ground.get_as_client(path)).status < 600


@pytest.mark.parametrize("lines", [(), (("Cache-Control", "max-age=0"),), (("Cache-Control", "no-store, max-age=9"),)])
async def test_one_without_a_lifetime_is_asked_for_again(ground: Ground, lines: tuple[tuple[str, str], ...]) -> None:
    path = failing(ground, 404, *lines)
    await ground.get(path)
    ground.origin.heal(path)
    assert (await ground.get(path)).body == BODY


@pytest.mark.parametrize("cause", ["no-cache", "max-age=0", "another Vary", "a purge"])
async def test_the_next_answer_takes_the_place_of_a_kept_one(ground: Ground, cause: str) -> None:
    path = failing(ground, 404, *FRESH, ("Vary", "X-Kind"))
    await ground.get(path, ("X-Kind", "a"))
    ground.origin.heal(path)
    assert (await ground.get(path, ("X-Kind", "a"))).status == 404
    if cause == "a purge":
        url = f"http://{HOST}{path}"
        assert (await post(ground, "/api/v1/purge", {"url": url}))[0] == 404, "no object"
        assert (await ground.get(path, ("X-Kind", "a"))).body == BODY
        return
    more = (("X-Kind", "b"),) if cause == "another Vary" else (("X-Kind", "a"), ("Cache-Control", cause))
    assert (await ground.get(path, *more)).body == BODY
    assert (await ground.get(path, ("X-Kind", "a"))).body == BODY


async def test_only_if_cached_is_answered_from_it(ground: Ground) -> None:
    path = failing(ground, 410, *FRESH)
    await ground.get(path)
    assert (await ground.get(path, ("Cache-Control", "only-if-cached"))).status == 410


async def test_what_a_request_with_credentials_was_told_is_for_it_alone(ground: Ground) -> None:
    path = failing(ground, 403, *FRESH)
    await ground.get(path, ("Authorization", "Basic x"))
    ground.origin.heal(path)
    assert (await ground.get(path)).body == BODY


async def test_shipped_services_take_no_lifetime_from_an_error(ground: Ground) -> None:
    path = failing(ground, 403, *FRESH)
    assert (await ground.get(path, host=DO_HOST)).status == 403
    ground.origin.heal(path)
    assert (await ground.get(path, host=DO_HOST)).body == BODY
