"""What is kept of a trust service's answers, for how long, and how much."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.core.errors import (
    AnchorPaused,
    BadAnswer,
    CertificateRefused,
    ConnectFailed,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.trust.memory import LONGEST_PAUSE_S, MAX_AT_ONCE, MAX_ENTRIES, MAX_WAITING, AnswerMemory
from tests.support.stored import settled
from tests.trust.ground import HandClock


class Asked:
    """Counts questions and answers with their number, or raises."""

    def __init__(self, error: UpstreamError | None = None) -> None:
        self.times = 0
        self.error = error

    async def __call__(self) -> int:
        """The next number."""
        self.times += 1
        if self.error is not None:
            raise self.error
        return self.times


async def test_answer_is_asked_for_once_in_its_lifetime() -> None:
    clock, ask = HandClock(), Asked()
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=60, failure_s=5)
    assert [await memory.get("k", ask) for _ in range(3)] == [1, 1, 1]
    clock.now_s += 60
    assert await memory.get("k", ask) == 2


async def test_zero_lifetime_keeps_nothing() -> None:
    clock, ask = HandClock(), Asked()
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=0, failure_s=0)
    assert [await memory.get("k", ask) for _ in range(2)] == [1, 2]


async def test_fault_of_one_key_pauses_that_key_alone() -> None:
    clock, ask = HandClock(), Asked(BadAnswer("no"))
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=60, failure_s=5)
    with pytest.raises(BadAnswer):
        await memory.get("k", ask)
    with pytest.raises(AnchorPaused):
        await memory.get("k", ask)
    assert ask.times == 1
    assert await memory.get("other", Asked()) == 1
    clock.now_s += 5
    assert await memory.get("k", Asked()) == 1


@pytest.mark.parametrize("error", [ConnectFailed("no"), CertificateRefused("no"), UpstreamTimeout("no")])
async def test_service_out_of_reach_is_left_alone_for_every_key_but_known_ones(error: UpstreamError) -> None:
    clock, ask = HandClock(), Asked()
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=60, failure_s=5)
    await memory.get("known", ask)
    with pytest.raises(type(error)):
        await memory.get("k", Asked(error))
    with pytest.raises(AnchorPaused):
        await memory.get("other", ask)
    assert await memory.get("known", ask) == 1
    clock.now_s += 5
    assert await memory.get("other", ask) == 2


class Gated:
    """Answers once the gate is open; notes how many are asked at the same time."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = self.now = self.most = 0

    async def __call__(self) -> int:
        """The number of the question."""
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self.gate.wait()
        self.now -= 1
        return self.asked


async def test_questions_that_wait_for_their_turn_are_asked_in_the_end() -> None:
    ask, memory = Gated(), AnswerMemory[int](clock=HandClock(), answer_s=60, failure_s=5)
    waiting = [asyncio.create_task(memory.get(str(number), ask)) for number in range(5 * MAX_AT_ONCE)]
    await settled()
    assert ask.asked == MAX_AT_ONCE
    ask.gate.set()
    assert len(await asyncio.gather(*waiting)) == 5 * MAX_AT_ONCE == ask.asked
    assert ask.most == MAX_AT_ONCE


async def test_same_question_is_asked_once_at_a_time_and_outlives_its_caller() -> None:
    ask, memory = Gated(), AnswerMemory[int](clock=HandClock(), answer_s=60, failure_s=5)
    leaving, staying = asyncio.create_task(memory.get("k", ask)), asyncio.create_task(memory.get("k", ask))
    await settled()
    leaving.cancel()
    ask.gate.set()
    assert await staying == 1
    assert await memory.get("k", ask) == 1
    assert ask.asked == 1


async def test_question_over_the_bound_is_not_remembered_as_a_failure() -> None:
    ask, memory = Gated(), AnswerMemory[int](clock=HandClock(), answer_s=60, failure_s=5)
    waiting = [asyncio.create_task(memory.get(str(number), ask)) for number in range(MAX_WAITING)]
    await settled()
    with pytest.raises(AnchorPaused):
        await memory.get("one more", ask)
    ask.gate.set()
    await asyncio.gather(*waiting)
    assert await memory.get("one more", ask)


async def test_questions_behind_one_that_failed_wait_for_the_end_of_the_pause() -> None:
    memory = AnswerMemory[int](clock=HandClock(), answer_s=60, failure_s=5)
    asked = Asked(UpstreamTimeout("no"))
    results = await asyncio.gather(
        *(memory.get(str(number), asked) for number in range(3 * MAX_AT_ONCE)), return_exceptions=True
    )
    assert asked.times == 1
    assert {type(result) for result in results} == {UpstreamTimeout, AnchorPaused}


async def test_pause_of_a_service_out_of_reach_grows_to_a_bound_and_ends_with_an_answer() -> None:
    clock = HandClock()
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=60, failure_s=5)
    pauses = []
    for number in range(12):
        with pytest.raises(ConnectFailed):
            await memory.get(str(number), Asked(ConnectFailed("no")))
        pauses.append(memory._paused_until_s - clock.now_s)
        clock.now_s = memory._paused_until_s
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert await memory.get("k", Asked()) == 1
    with pytest.raises(ConnectFailed):
        await memory.get("l", Asked(ConnectFailed("no")))
    assert memory._paused_until_s - clock.now_s == 5


async def test_number_of_entries_is_bounded_and_the_unused_go_first() -> None:
    clock, ask = HandClock(), Asked()
    memory: AnswerMemory[int] = AnswerMemory(clock=clock, answer_s=60, failure_s=5)
    for number in range(MAX_ENTRIES):
        await memory.get(str(number), ask)
    await memory.get("0", ask)
    await memory.get("one more", ask)
    assert len(memory) == MAX_ENTRIES
    times = ask.times
    await memory.get("0", ask)
    assert ask.times == times
    await memory.get("1", ask)
    assert ask.times == times + 1
