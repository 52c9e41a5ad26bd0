"""Conditional requests, cold and warm, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.content import Content, blob
from tests.support.ground import FRESH, Ground
from tests.support.tables import cases

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = blob(31, 50_000)
DATE = "Tue, 01 Jul 2025 10:00:00 GMT"

OBJECTS = {
    "tagged": Content(BODY, etag='"v1"', last_modified=DATE, headers=FRESH),
    "bare": Content(BODY, etag=None, headers=FRESH),
    "weak": Content(BODY, etag='W/"v1"', headers=FRESH),
}
CASES = [
    pytest.param(table, case.values[0], id=f"{table}: {case.id}")
    for table in OBJECTS
    for case in cases("conditions.toml", table)
]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("table", "case"), CASES)
async def test_a_condition_gets_its_answer(ground: Ground, table: str, case: dict[str, Any], warm: bool) -> None:
    path = ground.new_path()
    ground.origin.add(path, OBJECTS[table])
    if warm:
        assert (await ground.get(path)).body == BODY
    response = await ground.get(path, *case["fields"].items())
    assert response.status == case["status"]
    assert response.complete
    if response.status == 200:
        assert response.body == BODY
    elif response.status == 206:
        assert response.body == BODY[:10]
    if response.status in (200, 206, 304):
        assert response.fields.value("ETag") == OBJECTS[table].entity_tag
    if warm:
        assert ground.origin.body_bytes(path) == len(BODY)


async def test_not_modified_carries_what_the_client_must_update_and_no_body(ground: Ground) -> None:
    path = ground.new_path()
    fields = (*FRESH, ("Content-Location", "/here"), ("Vary", "Accept-Language"), ("Expires", DATE))
    ground.origin.add(path, Content(BODY, etag='"v1"', headers=fields))
    await ground.get(path)
    response = await ground.get(path, ("If-None-Match", '"v1"'))
    assert (response.status, response.body) == (304, b"")
    for name in ("Cache-Control", "Content-Location", "Date", "ETag", "Expires", "Vary"):
        assert name in response.fields, name
    assert response.fields.value("Content-Length") in (None, str(len(BODY)))


async def test_a_condition_does_not_become_part_of_what_is_stored(ground: Ground) -> None:
    path = ground.new_path()
    ground.origin.add(path, OBJECTS["tagged"])
    assert (await ground.get(path, ("If-None-Match", '"v1"'))).status == 304
    assert (await ground.get(path, ("If-Match", '"v2"'))).status == 412
    whole = await ground.get(path)
    assert (whole.status, whole.body) == (200, BODY)


async def test_conditions_work_on_head_too(ground: Ground) -> None:
    path = ground.new_path()
    ground.origin.add(path, OBJECTS["tagged"])
    for _ in ("cold", "warm"):
        assert (await ground.get(path, ("If-None-Match", '"v1"'), method="HEAD")).status == 304
        assert (await ground.get(path, ("If-Match", '"v2"'), method="HEAD")).status == 412
        assert (await ground.get(path)).body == BODY
