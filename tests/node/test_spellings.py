"""Two spellings of one key may lead to different answers: a refusal is for those who asked in the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import Response
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, FRESH, THIRD_HOST, Ground, GroundOptions, running_ground, was_hit
from tests.support.record import RequestRecord

BODY = blob(143, 20_000)
CONFIG = f"""
[services.tokens]
hosts = ["{THIRD_HOST}"]
query = "ignore"
forward_fields = ["X-Key"]
"""
HOSTS = [THIRD_HOST, DO_HOST]
REFUSALS = [404, 410, 403, 400, 500]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with running_ground(tmp_path, GroundOptions(config=CONFIG)) as ground:
        yield ground


def picky(ground: Ground, refusal: Content, *, headers: tuple[tuple[str, str], ...] = FRESH) -> str:
    """A path whose origin wants ``P1=good``, and no ``X-Key`` but ``good``."""
    path, right = ground.new_path(), Content(BODY, etag='"v1"', headers=headers)

    def respond(record: RequestRecord) -> Content:
        fits = "P1=good" in record.target and record.fields.value("X-Key") in (None, "good")
        return right if fits else refusal

    ground.origin.add(path, respond)
    return path


def is_right(response: Response) -> bool:
    return (response.status, response.body) == (200, BODY)


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("host", HOSTS)
async def test_a_refusal_is_not_remembered_for_another_spelling(ground: Ground, host: str, status: int) -> None:
    path = picky(ground, Content(b"no", status=status))
    for get in (ground.get, ground.get_as_client):
        assert not is_right(await get(f"{path}?P1=bad", host=host))
    assert is_right(await ground.get(f"{path}?P1=good", host=host))


async def test_the_same_refusal_is_remembered_for_the_same_spelling(ground: Ground) -> None:
    path = picky(ground, Content(b"no", status=404))
    for _ in range(3):
        assert (await ground.get(f"{path}?P1=bad", host=DO_HOST)).status == 404
    assert len(ground.origin.asked(path)) == 1


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("host", HOSTS)
async def test_who_waits_behind_another_spelling_asks_in_its_own_words(ground: Ground, host: str, status: int) -> None:
    path = picky(ground, Content(b"no", status=status))
    gate = ground.origin.gate(path)
    bad = [asyncio.create_task(ground.get(f"{path}?P1=bad", host=host)) for _ in range(3)]
    await ground.origin.wait_for(1, path)
    good = [asyncio.create_task(ground.get(f"{path}?P1=good", host=host)) for _ in range(3)]

    async def all_wait() -> bool:
        return (await ground.node.metrics()).total("cacheserver_collapsed_waiters_total") >= 5

    await eventually(all_wait)
    gate.open()
    assert all([is_right(await each) for each in good])
    for each in bad:
        assert not is_right(await each)


async def test_who_waits_behind_other_fields_asks_with_its_own(ground: Ground) -> None:
    path = f"{picky(ground, Content(b'no', status=404))}?P1=good"
    assert (await ground.get(path, ("X-Key", "bad"), host=THIRD_HOST)).status == 404
    assert is_right(await ground.get(path, ("X-Key", "good"), host=THIRD_HOST))
    assert was_hit(await ground.get(path, host=THIRD_HOST))


async def test_what_is_not_stored_for_one_spelling_is_stored_for_another(ground: Ground) -> None:
    refusal = Content(b"another file", headers=(("Cache-Control", "no-store"),))
    path = picky(ground, refusal)
    for _ in range(2):
        assert (await ground.get(f"{path}?P1=bad", host=DO_HOST)).body == b"another file"
    assert is_right(await ground.get(f"{path}?P1=good", host=DO_HOST))
    assert was_hit(await ground.get(f"{path}?P1=good", host=DO_HOST))


@pytest.mark.parametrize("status", [404, 410])
async def test_a_stored_object_does_not_end_with_a_refusal_of_one_spelling(ground: Ground, status: int) -> None:
    stale = (("Cache-Control", "max-age=0"),)
    path = picky(ground, Content(b"no", status=status), headers=stale)
    assert is_right(await ground.get(f"{path}?P1=good", host=THIRD_HOST))
    assert (await ground.get(f"{path}?P1=bad", host=THIRD_HOST)).status == status
    count = len(ground.origin.asked(path))
    assert is_right(await ground.get(f"{path}?P1=good", host=THIRD_HOST))
    assert [record.status for record in ground.origin.asked(path)[count:]] == [304]
