"""What is kept of a trust service's answers, for how long, and how much."""

from __future__ import annotations

import pytest

from cacheserver.core.errors import (
    AnchorPaused,
    BadAnswer,
    CertificateRefused,
    ConnectFailed,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.trust.memory import MAX_ENTRIES, AnswerMemory
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
