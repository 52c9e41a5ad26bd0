"""Whose turn it is: order, few large parts between two polls, and rounds that end early."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cacheserver.web.sending.turns import Turns
from tests.support.stored import HandClock, settled

WAITING = 40
AT_MOST = 8
"""Large parts between two polls: one round, and those that begin at once."""


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def turns(clock: HandClock) -> Turns:
    return Turns(clock)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    asyncio.get_running_loop().remove_reader(ours)
    ours.close()
    theirs.close()


def noting(calls: list[int], number: int) -> Callable[[], None]:
    return lambda: calls.append(number)


async def test_everyone_gets_a_turn_in_the_order_of_asking(turns: Turns) -> None:
    calls: list[int] = []
    for number in range(WAITING):
        turns.soon(noting(calls, number))
    await settled()
    assert calls == list(range(WAITING))


@pytest.mark.parametrize("begun", ["soon", "now"])
async def test_a_request_that_comes_meanwhile_waits_for_few_large_parts_however_many_senders_there_are(
    turns: Turns, pair: tuple[socket.socket, socket.socket], begun: str
) -> None:
    calls: list[int] = []
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hit() -> None:
        asyncio.get_running_loop().remove_reader(pair[0])
        seen.set_result(len(calls))

    asyncio.get_running_loop().add_reader(pair[0], hit)

    def first() -> None:
        calls.append(0)
        pair[1].send(b"GET")

    turns.soon(first)
    for number in range(1, WAITING):
        getattr(turns, begun)(noting(calls, number))
    assert 1 <= await seen <= AT_MOST
    await settled()
    assert sorted(calls) == list(range(WAITING))


async def test_a_round_in_which_the_processor_was_taken_away_ends_early(turns: Turns, clock: HandClock) -> None:
    calls: list[int] = []
    after: list[int] = []

    def long() -> None:
        calls.append(0)
        clock.now_s += 0.02

    for _ in range(3):
        turns.soon(long)
    asyncio.get_running_loop().call_soon(lambda: after.append(len(calls)))
    await settled()
    assert (after, len(calls)) == ([1], 3)


async def test_a_sender_alone_begins_at_once(turns: Turns) -> None:
    calls: list[int] = []
    turns.now(noting(calls, 1))
    assert calls == [1]


async def test_many_that_begin_in_the_same_moment_do_not_all_begin_at_once(turns: Turns) -> None:
    calls: list[int] = []
    for number in range(WAITING):
        turns.now(noting(calls, number))
    assert 1 <= len(calls) <= AT_MOST
    await settled()
    assert calls == list(range(WAITING))


async def test_whoever_asks_again_comes_after_those_who_wait(turns: Turns) -> None:
    calls: list[int] = []

    def again() -> None:
        calls.append(0)
        if calls.count(0) < 3:
            turns.soon(again)

    turns.soon(again)
    for number in range(1, 4):
        turns.soon(noting(calls, number))
    await settled()
    assert calls == [0, 1, 2, 3, 0, 0]


async def test_one_that_fails_takes_no_turn_from_another(turns: Turns) -> None:
    calls: list[int] = []
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))

    def failing() -> None:
        raise ValueError("broken")

    turns.soon(failing)
    turns.soon(noting(calls, 1))
    await settled()
    assert calls == [1]
    assert [str(fault["exception"]) for fault in faults] == ["broken"]


async def test_a_coroutine_that_was_cancelled_while_it_waited_harms_nobody(turns: Turns) -> None:
    async def waits() -> None:
        await turns.mine()

    cancelled, other = asyncio.create_task(waits()), asyncio.create_task(waits())
    await asyncio.sleep(0)
    cancelled.cancel()
    await other
    assert cancelled.cancelled()
