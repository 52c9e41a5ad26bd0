"""Many clients, one fetch: collapsing, waiters that stream, fills that outlive their clients, no leaks."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.client import RawClient, Response
from tests.support.content import blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, HOST, PIECE, Ground, was_hit

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 8 * PIECE + 4321
BODY = blob(51, SIZE)
CLIENTS = 20


async def no_fills(ground: Ground) -> None:
    """Wait until no fill is in flight."""

    async def none() -> bool:
        return (await ground.node.metrics()).total("cacheserver_fills_in_flight") == 0

    await eventually(none)


async def test_twenty_clients_of_a_cold_object_cost_it_once(ground: Ground) -> None:
    path = ground.add(BODY)
    responses = await asyncio.gather(*(ground.get(path) for _ in range(CLIENTS)))
    assert all((r.status, r.complete, r.body == BODY) == (200, True, True) for r in responses)
    assert ground.origin.body_bytes(path) == SIZE


async def test_clients_of_different_ranges_of_a_cold_object_cost_it_once(ground: Ground) -> None:
    path = ground.add(BODY, headers=())

    async def client(number: int) -> None:
        order = [(piece * (2 * number + 1)) % 9 for piece in range(9)]
        async with RawClient(*ground.node.content) as connection:
            for piece in order:
                start, stop = piece * PIECE, min((piece + 1) * PIECE, SIZE)
                target = f"{path}?P1={number}&cacheHostOrigin={DO_HOST}"
                response = await connection.request("GET", target, [("Range", f"bytes={start}-{stop - 1}")])
                assert (response.status, response.body == BODY[start:stop]) == (206, True)

    await asyncio.gather(*(client(number) for number in range(4)))
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) == SIZE


async def test_waiters_get_first_bytes_before_the_fill_is_complete(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=300_000)

    async def client() -> Response:
        async with RawClient(*ground.node.content) as connection:
            response = await connection.start("GET", path, host=HOST)
            assert (await connection.read_body(response, 300_000)) == BODY[:300_000]
            assert not gate.is_open
            first_bytes.release()
            return await connection.finish(response)

    first_bytes = asyncio.Semaphore(0)
    clients = [asyncio.create_task(client()) for _ in range(5)]
    for _ in clients:
        await asyncio.wait_for(first_bytes.acquire(), 15)
    gate.open()
    assert [response.body == BODY for response in await asyncio.gather(*clients)] == [True] * 5
    assert ground.origin.body_bytes(path) == SIZE


async def test_one_who_comes_late_gets_what_is_there_and_waits_for_the_rest(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=2 * PIECE + 100)
    async with RawClient(*ground.node.content) as early, RawClient(*ground.node.content) as late:
        first = await early.start("GET", path, host=HOST)
        await early.read_body(first, 2 * PIECE)
        await gate.reached()
        second = await late.start("GET", path, [("Range", f"bytes={PIECE}-")], host=HOST)
        assert (await late.read_body(second, PIECE)) == BODY[PIECE : 2 * PIECE]
        gate.open()
        assert (await early.finish(first)).body == BODY
        assert (await late.finish(second)).body == BODY[PIECE:]
    assert ground.origin.body_bytes(path) == SIZE


async def test_a_fill_outlives_its_client_to_the_end_of_the_piece(ground: Ground) -> None:
    path = ground.add(BODY)
    asked = ("Range", f"bytes=0-{PIECE - 1}")
    gate = ground.origin.gate(path, at=500_000)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, [asked], host=HOST)
        await client.read_body(response, 1000)
        await gate.reached()
        client.abort()
    await ground.node.wait_answered(path)
    gate.open()
    await ground.origin.wait_done(path)
    await no_fills(ground)
    assert ground.origin.body_bytes(path) == PIECE
    again = await ground.get(path, asked)
    assert (again.body == BODY[:PIECE], was_hit(again)) == (True, True)
    assert ground.origin.body_bytes(path) == PIECE


async def test_when_the_first_client_leaves_the_others_go_on(ground: Ground) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=300_000)
    async with RawClient(*ground.node.content) as first, RawClient(*ground.node.content) as second:
        opening = await first.start("GET", path, host=HOST)
        await first.read_body(opening, 1000)
        waiting = await second.start("GET", path, host=HOST)
        await second.read_body(waiting, 1000)
        first.abort()
        await ground.node.wait_answered(path)
        gate.open()
        assert (await second.finish(waiting)).body == BODY
    assert ground.origin.body_bytes(path) == SIZE


async def collapsed(ground: Ground) -> float:
    """Requests that have waited for what another one had begun."""
    return (await ground.node.metrics()).total("cacheserver_collapsed_waiters_total")


@pytest.mark.parametrize("at", [None, 0, 200_000], ids=["before the head", "before the body", "inside a piece"])
async def test_when_all_waiting_clients_leave_nothing_leaks(ground: Ground, at: int | None) -> None:
    path = ground.add(BODY)
    gate = ground.origin.gate(path, at=at)
    before = await collapsed(ground)
    clients = [RawClient(*ground.node.content) for _ in range(CLIENTS)]
    for client in clients:
        await client.__aenter__()
        await client.send(client.head("GET", path, host=HOST))
    await gate.reached()

    async def all_wait() -> bool:
        return await collapsed(ground) >= before + CLIENTS - 1

    await eventually(all_wait)
    for client in clients:
        client.abort()
        await client.__aexit__()
    await ground.node.wait_answered(path, CLIENTS)
    gate.open()
    await ground.origin.wait_done(path)
    await no_fills(ground)
    seen = len(ground.origin.asked(path))
    assert (await ground.get(path)).body == BODY
    later = [record.range or "bytes=0-" for record in ground.origin.asked(path)[seen:]]
    assert all(int(asked.removeprefix("bytes=").partition("-")[0]) >= PIECE for asked in later), later


async def test_a_client_that_leaves_between_ranges_leaves_no_fill_behind(ground: Ground) -> None:
    path = ground.add(blob(52, 40 * PIECE), headers=())
    for piece in range(3):
        asked = ("Range", f"bytes={piece * PIECE}-{(piece + 1) * PIECE - 1}")
        assert (await ground.get_as_client(path, asked, host=DO_HOST)).complete
    await no_fills(ground)
    await ground.origin.wait_done(path)
    assert ground.origin.body_bytes(path) <= 40 * PIECE


async def test_collapsed_requests_are_counted(ground: Ground) -> None:
    path = ground.add(blob(53, 1000))
    gate = ground.origin.gate(path)
    before = (await ground.node.metrics()).total("cacheserver_collapsed_waiters_total")
    clients = [asyncio.create_task(ground.get(path)) for _ in range(3)]
    await gate.reached()

    async def counted() -> bool:
        return (await ground.node.metrics()).total("cacheserver_collapsed_waiters_total") >= before + 2

    await eventually(counted)
    gate.open()
    assert {response.body for response in await asyncio.gather(*clients)} == {blob(53, 1000)}
    assert len(ground.origin.asked(path)) == 1
